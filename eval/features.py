"""Features of a vision Transformer on real images against bits: cosine to the single device, one and N class tokens.

    python -m eval.features --model vit-s14-focus --devices 4 --json features.json

Codebooks are learnt from other images than those measured, and cached. One set serves both kinds of class token: class
tokens are among the rows that it is learnt from, as often as they occur.
"""

import argparse
import itertools
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.cli import console, inputs, main
from thinwire.codebooks.store import load as load_codebooks
from thinwire.data import images
from thinwire.errors import ThinwireError
from thinwire.evaluation.features import compare_features
from thinwire.models.families import FAMILIES
from thinwire.models.vit import patches
from thinwire.reports.json_file import write_json
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.strategies import Strategy, parse_strategies
from thinwire.training.calibrate import CalibrationJob, check, codebook_path, collect, learn
from thinwire.weights.load import LoadedModel, for_grid

CODECS = (
    "float32",
    "int8",
    "int4",
    "int2",
    *(f"vq:groups={groups}:size={size}" for groups, size in itertools.product((1, 8, 16, 32), (1024, 256))),
    "quality:rank=0",
    "balanced:rank=0",
    "extreme:rank=0",
)
CLASS_TOKENS = ("each", "one")


def run(arguments: list[str]) -> int:
    """Measures, shows a table and writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m eval.features", description=__doc__, allow_abbrev=False)
    inputs.add_model(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="number of devices (default: 4)")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of a view (default: 224)")
    parser.add_argument("--views", type=int, default=40, metavar="W", help="views of the 10 test images (default: 40)")
    parser.add_argument(
        "--learn-views", type=int, default=80, metavar="W", help="views of the other 10 to learn from (default: 80)"
    )
    parser.add_argument(
        "--rows", type=int, default=8192, metavar="n", help="rows a layer to learn codebooks from (default: 8192)"
    )
    parser.add_argument("--codecs", default=",".join(CODECS), metavar="A,B,...", help="default: all of the table")
    inputs.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    inputs.add_docs(parser, "features")
    parser.set_defaults(model="vit-s14-focus")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_devices(args.devices)
    codecs = [codec for codec in args.codecs.split(",") if codec.strip()]
    strategies = parse_strategies(
        ",".join(f"sequence:{codec}:class_tokens={which}" for codec in codecs for which in CLASS_TOKENS)
    )
    model = sized(inputs.open_model(args.model), args.size)
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
    learnt = codebooks(model, strategies, args)
    rows_WTP = read(model, "test", args.size, args.views, args.seed)
    image_W = np.arange(args.views) % len(images.labelled_images("test"))
    with console.progress("comparing", 1 + len(strategies)) as bar:
        begun = itertools.count()
        rows = compare_features(
            model, strategies, args.devices, rows_WTP, image_W,
            lambda strategy: learnt.get(strategy.codec.spec(), {}), lambda _: bar.update(next(begun)),
        )  # fmt: skip
    document = {
        **inputs.environment(shlex.join(["python", "-m", "eval.features", *arguments])),
        "model": model.name,
        "images": images.DEFAULT,
        "size": args.size,
        "devices": args.devices,
        "views": args.views,
        "learn_views": args.learn_views,
        "learn_rows": args.rows,
        "seed": args.seed,
        "rows": rows,
    }
    console.say(table(rows))
    if args.json is not None:
        write_json(args.json, document)
    if args.docs is not None:
        what = "{views} views of {size} pixels of {images} test images, seed {seed}, {devices} devices; codebooks from "
        what += "{learn_views} views of other images ({learn_rows} rows)"
        write_section(args.docs, args.section, markdown_head(document, what.format(**document)) + table(rows))
    return 0


def sized(model: LoadedModel, size: int) -> LoadedModel:
    """The model for square images of so many pixels a side."""
    if FAMILIES[model.family].dims(model.config).inputs_known:
        raise ThinwireError(f"{model.name} reads no images; name a vision Transformer such as vit-s14-focus.")
    if size < model.config.patch:
        raise ThinwireError(f"--size is {size}, less than a patch of {model.config.patch} pixels.")
    return for_grid(model, (size // model.config.patch,) * 2)


def read(model: LoadedModel, split: str, size: int, count: int, seed: int) -> np.ndarray:
    """Views of a split as the model reads them (W, T, P)."""
    side = size // model.config.patch * model.config.patch
    return np.stack([patches(view, model.config.patch) for view in images.views(split, side, count, seed)])


def codebooks(model: LoadedModel, strategies: list[Strategy], args: argparse.Namespace) -> dict[str, Any]:
    """The learnt arrays by codec, from the cache or learnt now."""
    found: dict[str, Any] = {}
    missing: list[tuple[Strategy, Path]] = []
    for strategy in {s.codec.spec(): s for s in strategies if s.codec.learns}.values():
        place = codebook_path(model, strategy, args.devices)
        made_from = f"images{args.size}-{args.learn_views}x{args.rows}-seed{args.seed}"
        place = place.with_name(f"{place.name}-{made_from}")
        if not place.exists():
            missing.append((strategy, place))
            continue
        saved = load_codebooks(place)
        check(saved.manifest, model, strategy, args.devices)
        found[strategy.codec.spec()] = saved.arrays
    if not missing:
        return found
    rows_WTP = read(model, "calibration", args.size, args.learn_views, args.seed)
    job = CalibrationJob(len(rows_WTP), rows_WTP.shape[1], args.rows, args.seed)
    with console.progress("reading images through the model", len(rows_WTP)) as bar:
        samples = collect(model, [s for s, _ in missing], args.devices, rows_WTP, job, bar.update)
    data = {"source": images.DEFAULT, "part": "calibration", "views": len(rows_WTP), "size": args.size}
    layers = FAMILIES[model.family].dims(model.config).layers
    for strategy, place in missing:
        with console.progress(f"learning {strategy.codec.spec()}, by layer", layers) as bar:
            saved = learn(model, strategy, args.devices, samples, job, data, bar.update, place)
        found[strategy.codec.spec()] = saved.arrays
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of the rows."""
    headings = ("codec", "class tokens", "bits a token and layer", "cosine, class", "cosine, patches")
    body = []
    for row in rows:
        cosines = (f"{row[f'{name}_cosine']:.5f} ± {row[f'{name}_cosine_error']:.5f}" for name in ("class", "patch"))
        body.append([f"`{row['codec']}`", row["class_tokens"], f"{row['bits_per_token_per_layer']:.0f}", *cosines])
    return markdown_table(headings, body, ["class tokens"])


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
