"""`thinwire calibrate`: learn the codebooks that a strategy needs."""

import argparse
from pathlib import Path

import numpy as np

from thinwire.cli import console, inputs
from thinwire.codebooks.store import CodebookSet
from thinwire.errors import ThinwireError
from thinwire.reports.json_file import write_json
from thinwire.strategies import parse_strategies
from thinwire.training.calibrate import CalibrationJob, codebook_path

NAME = "calibrate"
HELP = "learn the codebooks of a model from text"
EXAMPLES = """\
thinwire calibrate --model smollm2-135m --strategy sequence:vq:groups=16
thinwire calibrate --strategy sequence:vq:groups=64:size=16,sequence:vq:groups=1
thinwire calibrate --strategy sequence:vq:groups=24 --text notes.txt --windows 24 --out my-codebooks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="for tensor parallelism (default: 4)")
    parser.add_argument(
        "--strategy",
        "--strategies",
        dest="strategies",
        default="sequence:vq:groups=16",
        metavar="S,...",
        help="what the codebooks are for; several share one pass over the text (default: sequence:vq:groups=16)",
    )
    parser.add_argument(
        "--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="the text to learn from (default: Wikipedia)"
    )
    job = CalibrationJob()
    parser.add_argument("--windows", type=int, default=job.windows, metavar="W", help=f"default: {job.windows}")
    parser.add_argument(
        "--tokens", type=int, default=job.window, metavar="T", help=f"of a window (default: {job.window})"
    )
    parser.add_argument("--rows", type=int, default=job.rows, metavar="R", help=f"kept a layer (default: {job.rows})")
    inputs.add_seed(parser)
    parser.add_argument("--out", metavar="DIR", help="where to save, for one strategy (default: the cache)")
    parser.add_argument("--json", metavar="FILE", help="write the manifests as JSON")


def run(args: argparse.Namespace) -> int:
    """Learn, save, and say how well the codebooks describe rows that they were not learnt from."""
    strategies = parse_strategies(args.strategies)
    for strategy in strategies:
        if not strategy.codec.learns:
            raise ThinwireError(f"{strategy.spec()} learns nothing, so there is nothing to calibrate.")
    if args.out and len(strategies) > 1:
        raise ThinwireError(
            f"--out is one folder and there are {len(strategies)} strategies; calibrate them one by one."
        )
    if args.rows < 1:
        raise ThinwireError(f"--rows is {args.rows}; keep at least one.")
    model = inputs.open_model(args.model)
    job = CalibrationJob(args.windows, args.tokens, args.rows, args.seed)
    out = Path(args.out) if args.out else None
    found = inputs.calibrate(model, strategies, args.devices, job, args.text, out)
    for strategy, saved in found.items():
        _tell(strategy.spec(), saved, out or codebook_path(model, strategy, args.devices))
    if args.json:
        write_json(args.json, [saved.manifest for saved in found.values()])
    return 0


def _tell(spec: str, saved: CodebookSet, path: Path) -> None:
    size = sum(array.nbytes for site in saved.arrays.values() for array in site.values())
    console.say(f"{spec}: {path} ({size / 1e6:.1f} MB)")
    for site, layers in saved.manifest.health.items():
        error = [layer["relative_error"] for layer in layers]
        dead = sum(layer["dead"] for layer in layers)
        codewords = np.prod(saved.arrays[site]["codebook"].shape[:3])
        console.say(
            f"  {site}: relative error {np.mean(error):.3f} (layers {min(error):.3f} to {max(error):.3f}), "
            f"{dead:.0f} of {codewords:.0f} codewords unused on held-out rows"
        )
