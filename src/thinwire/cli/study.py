"""What the studies under eval/ share: their options, what they read, and a file from which a run goes on."""

import argparse
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thinwire.cli import console, inputs
from thinwire.data import images
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.evaluation.reading import Found, Reading, read_by, unwritten, written
from thinwire.models.families import FAMILIES
from thinwire.models.vit import patches
from thinwire.reports.json_file import write_json
from thinwire.strategies import Strategy
from thinwire.weights.load import LoadedModel, for_grid
from thinwire.wire.spmd import make_mesh

# What must be the same for two runs to be one.
SETTINGS = ("model_sha256", "devices", "tokens", "text", "seed")


def add_arguments(parser: argparse.ArgumentParser, section: str, windows: int) -> None:
    """The options that all studies have."""
    inputs.add_model(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="of a window of text (default: 1024)")
    parser.add_argument(
        "--windows", type=int, default=windows, metavar="W", help="windows, or views of images (default: %(default)s)"
    )
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of an image (default: 224)")
    inputs.add_seed(parser)
    parser.add_argument("--mesh", action="store_true", help="one CPU device of JAX each instead of virtual devices")
    parser.add_argument("--json", metavar="FILE", help="write the rows, after every input")
    parser.add_argument("--plot", metavar="FILE", help="draw them as PNG or SVG")
    inputs.add_docs(parser, section)
    parser.add_argument("--resume", action="store_true", help="go on from what FILE holds already")


def check_arguments(args: argparse.Namespace) -> None:
    """Says what is wrong with them, before a model is loaded."""
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_amount(args.tokens, args.windows)
    inputs.check_devices(args.devices)
    if args.resume and (args.json is None or not Path(args.json).is_file()):
        raise ThinwireError("--resume goes on from the file that --json names, and there is none; leave it out.")
    if args.mesh:
        jax.config.update("jax_num_cpu_devices", args.devices)


def open_subject(args: argparse.Namespace) -> tuple[LoadedModel, Reading]:
    """The model, for images of the size that is asked for, and what it is to read of the test part."""
    model = inputs.open_model(args.model)
    dims = FAMILIES[model.family].dims(model.config)
    if dims.language:
        return model, Reading(inputs.open_windows(model, args.text, "test", args.tokens, args.windows, args.seed))
    if dims.inputs_known:
        raise ThinwireError(f"{model.name} predicts no tokens and sees no images; use eval.embeddings.")
    if args.size < model.config.patch:
        raise ThinwireError(f"--size is {args.size}, less than a patch of {model.config.patch} pixels.")
    model = for_grid(model, (args.size // model.config.patch,) * 2)
    image_W = np.arange(args.windows) % len(images.labelled_images("test"))
    return model, Reading(read_views(model, "test", args.windows, args.seed), image_W=image_W)


def read_views(model: LoadedModel, split: str, count: int, seed: int) -> np.ndarray:
    """Views of the sample images of a split, as the model reads them (W, T, P)."""
    side = model.config.patch * model.config.grid[0]
    return np.stack([patches(view, model.config.patch) for view in images.views(split, side, count, seed)])


def document_of(name: str, arguments: Sequence[str], args: argparse.Namespace, model: LoadedModel, reading: Reading):
    """What stands beside the rows: the model, the inputs and how they were measured."""
    command = shlex.join(["python", "-m", name, *(a for a in arguments if a != "--resume")])
    return {
        "model": model.name,
        "model_sha256": model.sha256,
        "devices": args.devices,
        "tokens": int(reading.inputs_W.shape[1]),
        "windows": len(reading.inputs_W),
        "text": images.DEFAULT if reading.images else inputs.source(model, args.text),
        "seed": args.seed,
        "measure": reading.measure,
        "emulated": "a mesh on one machine" if args.mesh else "virtual devices",
        **inputs.environment(command),
    }


def what_of(document: Mapping[str, Any]) -> str:
    """What was read, in words."""
    unit = "windows" if document["measure"] == "perplexity" else "views"
    return (
        "{windows} {unit} of {tokens} tokens of {text}, held-out part, seed {seed}, {devices} devices ({emulated}), "
        "float32"
    ).format(unit=unit, **document)


def read_done(path: str | Path, document: Mapping[str, Any], reading: Reading, part: str = "distances") -> Found:
    """What an earlier run with the same settings has found.

    Raises:
        ThinwireError: the file is none of this study's, or its settings were others.
    """
    try:
        old = json.loads(Path(path).read_text(encoding="utf-8"))
        for key in SETTINGS:
            if old[key] != document[key]:
                raise ThinwireError(f"{path} was measured with {key} {old[key]}, not {document[key]}: start afresh.")
        return {spec: of[: len(reading.inputs_W)] for spec, of in unwritten(reading, old[part]).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ThinwireError(f"{path} is no result of this study ({error!r}): start afresh.") from error


Rows = Callable[[Found], list[dict[str, Any]]]


def measured(
    args: argparse.Namespace,
    document: Mapping[str, Any],
    model: LoadedModel,
    reading: Reading,
    batches: Sequence[Sequence[Strategy]],
    codecs_of: Callable[[Strategy], Codecs],
    rows_of: Rows,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measures all strategies and keeps the rows in the file that --json names, after every input.

    Args:
        batches: strategies that are measured together; what one batch takes of memory is free for the next.
        rows_of: makes rows of all that is found so far; strategies of which nothing is known yet have none.
        more: what else the file holds.

    Returns:
        The document with its rows.
    """
    found: Found = read_done(args.json, document, reading) if args.resume else {}
    where = make_mesh(args.devices) if args.mesh else args.devices

    def whole(now: Found) -> dict[str, Any]:
        return {**document, **(more or {}), "rows": rows_of(now), "distances": written(now)}

    for i, batch in enumerate(batches):
        names = {strategy.spec() for strategy in batch}
        others = {spec: of for spec, of in found.items() if spec not in names}
        keep = lambda now, others=others: args.json and write_json(args.json, whole({**others, **now}))
        done = {spec: of for spec, of in found.items() if spec in names}
        if all(len(done.get(spec, ())) >= len(reading.inputs_W) for spec in names):
            continue
        with console.progress(f"reading, part {i + 1} of {len(batches)}", len(reading.inputs_W)) as bar:
            now = read_by(model, batch, where, reading, codecs_of, None, done, keep, bar.update)
        found = {**others, **now}
    document = whole(found)
    if args.json is not None:
        write_json(args.json, document)
    return document
