"""`thinwire calibrate`: learn the codebooks that a strategy needs."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from thinwire.cli import console, inputs
from thinwire.codebooks.store import CodebookSet
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.reports.json_file import write_json
from thinwire.strategies import parse_strategies
from thinwire.training.calibrate import CalibrationJob, codebook_path
from thinwire.weights.load import LoadedModel

NAME = "calibrate"
HELP = "learn the codebooks of a model from text"
EXAMPLES = """\
thinwire calibrate --model smollm2-135m --strategy sequence:vq:groups=16
thinwire calibrate --strategy sequence:vq:groups=64:size=16,sequence:vq:groups=1
thinwire calibrate --strategy sequence:vq:groups=24 --text notes.txt --windows 24 --out my-codebooks
"""

_JOB = CalibrationJob()
_TOKENS = _JOB.windows * _JOB.window


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="of tensor parallelism (default: 4)")
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
    parser.add_argument(
        "--windows", type=int, metavar="W", help=f"windows of text (default: as many as make {_TOKENS} tokens)"
    )
    parser.add_argument(
        "--tokens", type=int, metavar="T", help=f"tokens of a window (default: {_JOB.window}, or what the model reads)"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=_JOB.rows,
        metavar="R",
        help=f"rows kept of each layer, to learn from (default: {_JOB.rows})",
    )
    inputs.add_seed(parser)
    parser.add_argument("--out", metavar="DIR", help="where to save, for one strategy (default: the cache)")
    parser.add_argument("--json", metavar="FILE", help="write the manifests as JSON")


def run(args: argparse.Namespace) -> int:
    """Learn, save, and say how well the codebooks describe rows that they were not learnt from."""
    strategies = parse_strategies(args.strategies)
    for strategy in strategies:
        if not strategy.codec.learns:
            raise ThinwireError(f"{strategy.spec()} learns nothing, so there is nothing to calibrate.")
    strategies = list(dict.fromkeys(strategies))
    if args.out is not None and len(strategies) > 1:
        raise ThinwireError(
            f"--out is one folder and there are {len(strategies)} strategies; calibrate them one by one."
        )
    if args.rows < 1:
        raise ThinwireError(f"--rows is {args.rows}; keep at least one.")
    inputs.check_outputs(args.json)
    inputs.check_devices(args.devices)
    inputs.check_amount(args.tokens, args.windows)
    model = inputs.open_model(args.model)
    out = None if args.out is None else Path(args.out)
    found = inputs.calibrate(model, strategies, args.devices, _job(model, args), args.text, out)
    for strategy, saved in found.items():
        tell(strategy.spec(), saved, out or codebook_path(model, strategy, args.devices))
    if args.json is not None:
        write_json(args.json, [saved.manifest for saved in found.values()])
    return 0


def _job(model: LoadedModel, args: argparse.Namespace) -> CalibrationJob:
    """The default amount of text in windows that the model can read, or what was asked for."""
    job = dataclasses.replace(_JOB, rows=args.rows, seed=args.seed)
    if args.tokens is None:
        job = job.within(FAMILIES[model.family].dims(model.config).context)
    else:
        job = dataclasses.replace(job, window=args.tokens, windows=-(-_TOKENS // args.tokens))
    return job if args.windows is None else dataclasses.replace(job, windows=args.windows)


def tell(spec: str, saved: CodebookSet, path: Path) -> None:
    """Say where a set is, how large, and how well it describes rows that it was not learnt from."""
    size = sum(array.nbytes for site in saved.arrays.values() for array in site.values())
    console.say(f"{spec}: {path} ({size / 1e6:.1f} MB)")
    for site, layers in saved.manifest.health.items():
        error = [layer["relative_error"] for layer in layers]
        said = f"  {site}: relative error {np.mean(error):.3f} (layers {min(error):.3f} to {max(error):.3f})"
        learnt = [layer for layer in layers if "dead" in layer]
        if learnt:
            dead = sum(layer["dead"] for layer in learnt)
            codewords = len(learnt) * np.prod(saved.arrays[site]["codebook"].shape[1:3])
            said += f", {dead:.0f} of {codewords:.0f} codewords unused on held-out rows"
        console.say(said)
