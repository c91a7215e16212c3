"""What the studies under eval/ share: their options, what they read, and a file from which a run goes on."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thinwire.cli import console, inputs, resume, trained
from thinwire.cli.trained import add_trained
from thinwire.codebooks.store import load as load_codebooks
from thinwire.data import images
from thinwire.engine import Codecs, cast
from thinwire.errors import ThinwireError
from thinwire.evaluation.reading import Found, Reading, read_by, unwritten, written
from thinwire.models.families import FAMILIES
from thinwire.models.vit import patches
from thinwire.reports.json_file import write_json
from thinwire.strategies import Sequence as SequenceStrategy
from thinwire.strategies import Strategy
from thinwire.training import image_run
from thinwire.training.artefact import Artefact, read_card, serves
from thinwire.training.calibrate import CalibrationJob, check, codebook_path, collect, learn
from thinwire.weights.load import LoadedModel, for_grid
from thinwire.wire.spmd import make_mesh

# What must be the same for two runs to be one.
SETTINGS = ("model_sha256", "devices", "tokens", "text", "seed")


def add_arguments(parser: argparse.ArgumentParser, section: str, windows: int) -> None:
    """The options that all studies have."""
    inputs.add_model(parser)
    add_trained(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="of a window of text (default: 1024)")
    parser.add_argument(
        "--windows", type=int, default=windows, metavar="W", help="windows, or views of images (default: %(default)s)"
    )
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of an image (default: 224)")
    parser.add_argument(
        "--learn-views",
        type=int,
        default=80,
        metavar="W",
        help="views of other images to learn from, or training images of a trained model (default: 80)",
    )
    inputs.add_seed(parser)
    parser.add_argument("--mesh", action="store_true", help="one CPU device of JAX each instead of virtual devices")
    parser.add_argument("--json", metavar="FILE", help="write the rows, after every input")
    parser.add_argument("--plot", metavar="FILE", help="draw them as PNG or SVG")
    inputs.add_docs(parser, section)
    resume.add_resume(parser)


def check_arguments(args: argparse.Namespace) -> None:
    """Says what is wrong with them, before a model is loaded."""
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_amount(args.tokens, args.windows)
    inputs.check_devices(args.devices)
    if args.resume:
        resume.check_file(args.json)
    if args.mesh:
        jax.config.update("jax_num_cpu_devices", args.devices)


def open_subject(args: argparse.Namespace) -> tuple[LoadedModel, Reading]:
    """The model, for images of the size that is asked for, and what it is to read of the test part.

    A model that was trained to tell images apart reads test images of what it was trained on, with their labels.
    """
    artefact = trained.read(args.trained)
    model = trained.open_model(args.model, artefact)
    if artefact is not None and "levels" in artefact.card.data:
        labelled, rows_WTP = image_run.images_to_test(artefact.card, None, args.windows)
        return model, Reading(rows_WTP, labels_W=labelled.labels_N)
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
    patch, margin = model.config.patch, model.config.margin
    return np.stack([patches(view, patch, margin) for view in images.views(split, side, count, seed)])


def open_codecs(
    model: LoadedModel, strategies: Sequence[Strategy], args: argparse.Namespace, reading: Reading
) -> Callable[[Strategy], Codecs]:
    """The learnt arrays that each strategy needs: those it was trained with, from the cache, or learnt now."""
    artefact = trained.read(args.trained)
    if artefact is not None and (served := [s for s in strategies if _is_of(artefact, s)]):
        others = _open_codecs(model, [s for s in strategies if s not in served], args, reading)
        return lambda strategy: artefact.codecs if strategy in served else others(strategy)
    return _open_codecs(model, strategies, args, reading)


def _is_of(artefact: Artefact, strategy: Strategy) -> bool:
    """Whether a strategy is the one that was trained; the same codec elsewhere in the model meets other values."""
    return isinstance(strategy, SequenceStrategy) and serves(artefact, strategy)


def _open_codecs(model: LoadedModel, strategies, args: argparse.Namespace, reading: Reading):
    if not reading.images:
        return inputs.codecs_for(model, list(strategies), 1, None, args.seed, job=inputs.study_job(args.seed))

    def place_for(strategy: Strategy) -> Path:
        place = codebook_path(model, strategy, 1)
        size = "" if args.trained else str(args.size)
        return place.with_name(f"{place.name}-views{size}-{args.learn_views}-seed{args.seed}")

    found: dict[Path, Codecs] = {}
    missing: dict[Path, Strategy] = {}
    for strategy in strategies:
        if not strategy.codec.learns:
            continue
        place = place_for(strategy)
        if place.exists():
            saved = load_codebooks(place)
            check(saved.manifest, model, strategy, 1)
            found[place] = saved.arrays
        else:
            missing.setdefault(place, strategy)
    if missing:
        found |= _learnt_from_images(model, missing, args)
    return lambda strategy: found[place_for(strategy)] if strategy.codec.learns else {}


def _learnt_from_images(model: LoadedModel, missing: Mapping[Path, Strategy], args) -> dict[Path, Codecs]:
    dims = FAMILIES[model.family].dims(model.config)
    if args.trained:
        card = read_card(args.trained)
        rows_WTP = image_run.images_to_learn(card, args.learn_views)
        data = {"source": card.data["source"], "part": "train", "images": len(rows_WTP)}
    else:
        rows_WTP = read_views(model, "calibration", args.learn_views, args.seed)
        data = {"source": images.DEFAULT, "part": "calibration", "views": len(rows_WTP), "size": args.size}
    job = CalibrationJob(len(rows_WTP), rows_WTP.shape[1], seed=args.seed)
    with console.progress("reading images through the model", len(rows_WTP)) as bar:
        samples = collect(model, list(missing.values()), 1, rows_WTP, job, bar.update)
    found: dict[Path, Codecs] = {}
    for place, strategy in missing.items():
        with console.progress(f"learning {strategy.spec()}, by layer", dims.layers * len(strategy.sites(dims))) as bar:
            found[place] = learn(model, strategy, 1, samples, job, data, bar.update, place).arrays
    return found


def document_of(name: str, arguments: Sequence[str], args: argparse.Namespace, model: LoadedModel, reading: Reading):
    """What stands beside the rows: the model, the inputs and how they were measured."""
    return {
        "model": model.name,
        "model_sha256": model.sha256,
        "devices": args.devices,
        "tokens": int(reading.inputs_W.shape[1]),
        "windows": len(reading.inputs_W),
        "text": source_of(model, args, reading),
        **trained.facts(trained.read(args.trained)),
        "seed": args.seed,
        "measure": reading.measure,
        "emulated": "a mesh on one machine" if args.mesh else "virtual devices",
        **inputs.environment(resume.command_of(name, arguments)),
    }


def source_of(model: LoadedModel, args: argparse.Namespace, reading: Reading) -> str:
    """Where the inputs are from."""
    if reading.labels_W is not None:
        return read_card(args.trained).data["source"]
    return images.DEFAULT if reading.images else inputs.source(model, args.text)


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

    def read(old: Mapping[str, Any]) -> Found:
        return {spec: of[: len(reading.inputs_W)] for spec, of in unwritten(reading, old[part]).items()}

    return resume.read_earlier(path, "this study", read, document, SETTINGS)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Strategies that are measured together; what they take of memory is free for the next batch.

    Attributes:
        codecs_of: the learnt arrays that each strategy needs, by site.
        label: tells the results of several models apart.
    """

    model: LoadedModel
    strategies: Sequence[Strategy]
    codecs_of: Callable[[Strategy], Codecs]
    label: str = ""


def named(label: str, strategy: Strategy) -> str:
    """Under which name the results of a strategy are kept."""
    return f"{label} {strategy.spec()}" if label else strategy.spec()


def measured(
    args: argparse.Namespace,
    document: Mapping[str, Any],
    reading: Reading,
    batches: Sequence[Batch],
    rows_of: Callable[[Found], list[dict[str, Any]]],
) -> dict[str, Any]:
    """Measures all batches and keeps the rows in the file that --json names, after every input.

    Args:
        rows_of: makes rows of all that is found so far, by name; strategies of which nothing is known yet have none.

    Returns:
        The document with its rows.
    """
    found: Found = read_done(args.json, document, reading) if args.resume else {}
    where = make_mesh(args.devices) if args.mesh else args.devices
    whole = lambda: {**document, "rows": rows_of(found), "distances": written(found)}
    for i, batch in enumerate(batches):
        names = {strategy.spec(): named(batch.label, strategy) for strategy in batch.strategies}
        done = {spec: found.get(name, []) for spec, name in names.items()}
        if all(len(of) >= len(reading.inputs_W) for of in done.values()):
            continue

        def keep(now: Found, names=names) -> None:
            found.update({names[spec]: of for spec, of in now.items()})
            if args.json is not None:
                write_json(args.json, whole())

        codecs_of = batch.codecs_of if args.mesh else _placed(batch.codecs_of)
        with console.progress(f"reading, part {i + 1} of {len(batches)}", len(reading.inputs_W)) as bar:
            keep(read_by(batch.model, batch.strategies, where, reading, codecs_of, None, done, keep, bar.update))
    if args.json is not None:
        write_json(args.json, whole())
    return whole()


def _placed(codecs_of: Callable[[Strategy], Codecs]) -> Callable[[Strategy], Codecs]:
    """The same arrays, on the device once for all strategies that share them."""
    kept: dict[int, tuple[Codecs, Codecs]] = {}  # those given are held, so that no other object gets their number

    def of(strategy: Strategy) -> Codecs:
        given = codecs_of(strategy)
        if id(given) not in kept:
            kept[id(given)] = (given, jax.device_put(cast(given, "float32")))
        return kept[id(given)][1]

    return of
