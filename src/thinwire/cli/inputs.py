"""Options that several subcommands share, and what they mean."""

import argparse
import dataclasses
import hashlib
import platform
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from thinwire.cli import console
from thinwire.cli.programs import keep_programs
from thinwire.codebooks.store import CodebookSet, check_place
from thinwire.codebooks.store import load as load_codebooks
from thinwire.data.text import read_documents
from thinwire.data.windows import windows
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import KERNELS, VARIABLE, chosen
from thinwire.layout import split_lengths
from thinwire.models.families import FAMILIES
from thinwire.reports.files import check_folder, check_writable
from thinwire.reports.sections import read_section
from thinwire.strategies import Strategy, Tensor
from thinwire.strategies.balance import Balanced, Split
from thinwire.training.artefact import Artefact, serves
from thinwire.training.calibrate import CalibrationJob, check, codebook_path, collect, learn
from thinwire.weights.catalogue import MODELS, TEXTS, Artifact
from thinwire.weights.fetch import fetch, is_cached
from thinwire.weights.load import LoadedModel, load_model

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_TEXT = "wikipedia-excerpt"


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help=f"a catalogue name ({', '.join(MODELS)}), shape:NAME for random weights, a GGUF or safetensors path, or a "
        f"Hub id (default: {DEFAULT_MODEL})",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="weights and activations (default: float32)"
    )


def add_kernels(parser: argparse.ArgumentParser) -> None:
    """--kernels."""
    parser.add_argument(
        "--kernels",
        choices=KERNELS,
        default=chosen(),
        help="auto and tables: attend to codes as they are, in models that see both ways and rotate no keys, where "
        "that is less work (outputs differ by rounding); jax: decode, then attend; pallas: as auto, and kernels for "
        f"GPUs and TPUs, not timed yet; on a CPU they are interpreted, for tests only (default: {VARIABLE} or auto)",
    )


def add_devices(parser: argparse.ArgumentParser) -> None:
    """--devices, --split and --codebooks."""
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="number of devices (default: 4)")
    parser.add_argument(
        "--split",
        type=parse_split,
        metavar="A/B/...",
        help="each device's share of the tokens, such as 2/1/1, or balanced: as they get them done (default: even)",
    )
    parser.add_argument(
        "--codebooks",
        metavar="DIR",
        help="codebooks made by `thinwire calibrate --out DIR` (default: the cache's, made now if there are none)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument(
        "--seed", type=parse_seed, default=0, metavar="S", help="seed of everything random (default: 0)"
    )


def add_docs(parser: argparse.ArgumentParser, section: str) -> None:
    """--docs and --section."""
    parser.add_argument("--docs", metavar="FILE", help="put the table into a Markdown document")
    parser.add_argument("--section", default=section, help="between its marks of this name (default: %(default)s)")


def check_section(docs: str | None, section: str) -> None:
    """Raises ThinwireError where the document has no such section, before an hour of work."""
    if docs is not None:
        read_section(docs, section)


def parse_seed(text: str) -> int:
    """A whole number that every generator takes.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return seed


def parse_split(text: str) -> tuple[float, ...] | Balanced:
    """``3/2/1`` as numbers; ``balanced`` as a split that is found for each strategy.

    Raises:
        argparse.ArgumentTypeError: it is no list of positive numbers.
    """
    if text == str(Balanced()):
        return Balanced()
    try:
        split = tuple(float(part) for part in text.split("/"))
    except ValueError:
        split = ()
    if not split or not all(0 < share < float("inf") for share in split):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers such as 3/2/1, nor balanced")
    return split


def split_written(split: Split, tokens: int, devices: int) -> list[int] | str | None:
    """How many tokens each device has, for a file: None where there are fewer tokens than devices."""
    if isinstance(split, Balanced):
        return str(split)
    return split_lengths(tokens, devices, split) if tokens >= devices else None


def check_devices(devices: int, split: Split = None, tokens: int | None = None) -> None:
    """Says what is wrong with --devices and --split, before a model is loaded."""
    if devices < 1:
        raise ThinwireError(f"--devices is {devices}; ask for at least 1.")
    if isinstance(split, tuple) and len(split) != devices:
        shares = "/".join(f"{share:g}" for share in split)
        raise ThinwireError(
            f"--split {shares} has {len(split)} shares and there are {devices} devices; write one each."
        )
    if tokens is not None and tokens < devices:
        raise ThinwireError(f"{tokens} tokens cannot be split over {devices} devices; use at most {tokens} devices.")


def check_amount(tokens: int | None, count: int | None) -> None:
    """Says what is wrong with --tokens and --windows, before a model is loaded."""
    if tokens is not None and tokens < 2:
        raise ThinwireError(f"{tokens} tokens leave nothing to predict; ask for at least 2.")
    if count is not None and count < 1:
        raise ThinwireError(f"{count} windows hold no text; ask for at least 1.")


def check_outputs(*paths: str | None) -> None:
    """Says which file could not be written, before it is computed."""
    wanted = [path for path in paths if path is not None]
    for path in wanted:
        check_writable(path)
    files = [place for place in (Path(path).resolve() for path in wanted) if place.is_file() or not place.exists()]
    if twice := {place for place in files if files.count(place) > 1}:
        raise ThinwireError(f"{twice.pop()} is to hold two different results; name a file for each.")


def open_model(name: str) -> LoadedModel:
    """Loads a model, with a bar while it downloads; from here on compiled programs are kept for the next run."""
    keep_programs()
    if name in MODELS:
        _download(name, MODELS[name])
    return load_model(name)


def _download(name: str, artifact: Artifact) -> None:
    """Brings a file of the catalogue into the cache, with a bar if it is not there."""
    if not is_cached(artifact):
        with console.progress(f"fetching {name}", artifact.archive_size, unit="bytes") as bar:
            fetch(artifact, bar.update)


def open_windows(
    model: LoadedModel, text: str, part: str, tokens: int, count: int, seed: int
) -> Int[np.ndarray, "W T"]:
    """``count`` windows of ``tokens`` tokens of a text; random ids for a model without a tokenizer.

    ``part`` is ``calibration`` or ``test``; they have no text in common.
    """
    check_amount(tokens, count)
    dims = FAMILIES[model.family].dims(model.config)
    if tokens > dims.context:
        raise ThinwireError(
            f"{tokens} tokens are more than the {dims.context} that {model.name} reads at once; ask for fewer."
        )
    if not dims.inputs_known:
        raise ThinwireError(
            f"{model.name} reads images, and this command reads text; name a language model, or measure it with "
            "python -m eval.features."
        )
    if model.tokenizer is None:
        if text != DEFAULT_TEXT:
            raise ThinwireError(f"{model.name} has no tokenizer and cannot read {text}; leave out --text.")
        rng = np.random.default_rng([seed, part == "test"])
        return rng.integers(0, dims.vocab, (count, tokens), dtype=np.int32)
    if text in TEXTS:
        _download(text, TEXTS[text])
    return windows(read_documents(text, part), model.tokenizer, tokens, count, seed)


def source(model: LoadedModel, text: str) -> str:
    """What ``open_windows`` read."""
    return "random token ids" if model.tokenizer is None else text


def study_job(seed: int) -> CalibrationJob:
    """What codebooks of studies are learnt from; the same for all, and half as much again as of other commands."""
    return CalibrationJob(windows=24, rows=24576, seed=seed)


def codecs_for(
    model: LoadedModel,
    strategies: list[Strategy],
    devices: int,
    folder: str | None,
    seed: int,
    window: int | None = None,
    trained: Artefact | None = None,
    job: CalibrationJob | None = None,
) -> Callable[[Strategy], Codecs]:
    """Loads the codebooks that the strategies need, and learns those that nobody has learnt yet.

    Those are learnt from windows of ``window`` tokens; by default as long as the model reads. What ``model`` was
    ``trained`` with comes with codebooks for its own codec. A ``job`` says from how much text all of them must have
    been learnt at least, so that a comparison is of codecs and not of texts: those of less are learnt again.

    Raises:
        ThinwireError: ``folder`` has codebooks that do not fit, or several strategies need different ones.
    """
    served = {s for s in strategies if trained is not None and folder is None and serves(trained, s)}
    learning = [s for s in dict.fromkeys(strategies) if s.codec.learns and s not in served]
    places = {s: codebook_path(model, s, devices) for s in learning}
    if folder is not None and len(set(places.values())) > 1:
        names = ", ".join(s.spec() for s in places)
        raise ThinwireError(f"--codebooks is one set and {names} need different ones; compare them one by one.")
    found: dict[Path, Codecs] = {}
    missing: dict[Path, Strategy] = {}
    wanted = (job or CalibrationJob(seed=seed)).within(window or FAMILIES[model.family].dims(model.config).context)
    for strategy, place in places.items():
        path = place if folder is None else Path(folder)
        if folder is None and not path.exists():
            missing.setdefault(place, strategy)
            continue
        saved = load_codebooks(path)
        try:
            check(saved.manifest, model, strategy, devices)
        except ThinwireError as error:
            raise ThinwireError(f"{path}: {error}") from error
        if folder is None and job is not None and saved.manifest.data.get("tokens", 0) < wanted.windows * wanted.window:
            missing.setdefault(place, strategy)
            continue
        found[place] = saved.arrays
    if missing:
        names, text = ", ".join(s.spec() for s in missing.values()), source(model, DEFAULT_TEXT)
        of_so_much = "" if job is None else f" from {wanted.windows} windows"
        console.remark(
            f"no codebooks yet{of_so_much} for {names}: learning them now from {text} (once; they are cached)"
        )
        learnt = calibrate(model, list(missing.values()), devices, wanted, DEFAULT_TEXT)
        found |= {place: learnt[strategy].arrays for place, strategy in missing.items()}
    own = {} if trained is None else trained.codecs
    return lambda strategy: own if strategy in served else found[places[strategy]] if strategy in places else {}


def calibrate(
    model: LoadedModel,
    strategies: list[Strategy],
    devices: int,
    job: CalibrationJob,
    text: str = DEFAULT_TEXT,
    out: Path | None = None,
) -> dict[Strategy, CodebookSet]:
    """Learns and saves codebooks from the calibration part of a text, with bars."""
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
        if isinstance(strategy, Tensor):
            strategy.layout(dims, job.window, devices, None)
        place = out or codebook_path(model, strategy, devices)
        check_place(place)
        check_folder(place.parent)
    ids_WT = open_windows(model, text, "calibration", job.window, job.windows, job.seed)
    with console.progress("reading text through the model", len(ids_WT)) as bar:
        samples = collect(model, strategies, devices, ids_WT, job, bar.update)
    data = {
        "source": source(model, text),
        "part": "calibration",
        "job": dataclasses.asdict(job),
        "windows": len(ids_WT),
        "tokens": int(ids_WT.size),
        "token_ids_sha256": hashlib.sha256(ids_WT.tobytes()).hexdigest(),
    }
    found = {}
    for strategy in strategies:
        steps = dims.layers * len(strategy.sites(dims))
        with console.progress(f"learning {strategy.codec.spec()}, by layer", steps) as bar:
            found[strategy] = learn(model, strategy, devices, samples, job, data, bar.update, out)
    return found


def environment(command: str) -> dict[str, str]:
    """Versions and machine, to stand beside every number."""
    from importlib import metadata

    return {
        "thinwire": metadata.version("thinwire"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "platform": f"{jax.default_backend()}, {platform.machine()} {platform.system()}",
        "command": command,
    }
