"""Options that several subcommands share, and what they mean."""

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from thinwire.cli import console
from thinwire.codebooks.store import load as load_codebooks
from thinwire.data.text import read_documents
from thinwire.data.windows import windows
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import Strategy
from thinwire.training.calibrate import CalibrationJob, check, codebook_path, collect, learn
from thinwire.weights.catalogue import MODELS
from thinwire.weights.load import LoadedModel, load_model

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_TEXT = "wikipedia-excerpt"


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model and --dtype."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help=f"a catalogue name ({', '.join(MODELS)}), shape:NAME for random weights, a GGUF or safetensors path, or a "
        f"Hub id (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="weights and activations (default: float32)"
    )


def add_devices(parser: argparse.ArgumentParser) -> None:
    """--devices, --split and --codebooks."""
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="number of devices (default: 4)")
    parser.add_argument(
        "--split",
        type=parse_split,
        metavar="A/B/...",
        help="each device's share of the tokens, such as 2/1/1 (default: even)",
    )
    parser.add_argument(
        "--codebooks",
        metavar="DIR",
        help="codebooks made by `thinwire calibrate --out DIR` (default: the cache's, made now if there are none)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of everything random (default: 0)")


def parse_split(text: str) -> tuple[float, ...]:
    """``3/2/1`` as numbers.

    Raises:
        argparse.ArgumentTypeError: it is no list of positive numbers.
    """
    try:
        split = tuple(float(part) for part in text.split("/"))
    except ValueError:
        split = ()
    if not split or not all(0 < share < float("inf") for share in split):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers such as 3/2/1")
    return split


def open_model(name: str) -> LoadedModel:
    """Loads a model, with a bar while it downloads."""
    if name in MODELS:
        with console.progress(f"loading {name}", MODELS[name].archive_size, unit="bytes") as bar:
            return load_model(name, bar.update)
    return load_model(name)


def open_windows(
    model: LoadedModel, text: str, part: str, tokens: int, count: int, seed: int
) -> Int[np.ndarray, "W T"]:
    """``count`` windows of ``tokens`` tokens of a text; random ids for a model without a tokenizer.

    ``part`` is ``calibration`` or ``test``; they have no text in common.
    """
    if tokens < 2:
        raise ThinwireError(f"{tokens} tokens leave nothing to predict; ask for at least 2.")
    if count < 1:
        raise ThinwireError(f"{count} windows hold no text; ask for at least 1.")
    dims = FAMILIES[model.family].dims(model.config)
    if tokens > dims.context:
        raise ThinwireError(f"{tokens} tokens are more than the {dims.context} that {model.name} reads at once.")
    if model.tokenizer is None:
        rng = np.random.default_rng([seed, part == "test"])
        return rng.integers(0, dims.vocab, (count, tokens), dtype=np.int32)
    return windows(read_documents(text, part), model.tokenizer, tokens, count, seed)


def codecs_for(
    model: LoadedModel, strategies: list[Strategy], devices: int, folder: str | None, seed: int
) -> Callable[[Strategy], Codecs]:
    """Loads the codebooks that the strategies need, and learns those that nobody has learnt yet.

    Raises:
        ThinwireError: ``folder`` has codebooks that do not fit, or for one strategy only and several need some.
    """
    found: dict[Strategy, Codecs] = {}
    missing = []
    for strategy in dict.fromkeys(s for s in strategies if s.codec.learns):
        path = Path(folder) if folder else codebook_path(model, strategy, devices)
        if not folder and not path.exists():
            missing.append(strategy)
            continue
        saved = load_codebooks(path)
        check(saved.manifest, model, strategy, devices)
        found[strategy] = saved.arrays
    if missing:
        names = ", ".join(s.spec() for s in missing)
        console.remark(f"no codebooks yet for {names}: learning them now from {DEFAULT_TEXT} (once; they are cached)")
        for strategy, saved in calibrate(model, missing, devices, CalibrationJob(seed=seed)).items():
            found[strategy] = saved.arrays
    return lambda strategy: found.get(strategy, {})


def calibrate(
    model: LoadedModel,
    strategies: list[Strategy],
    devices: int,
    job: CalibrationJob,
    text: str = DEFAULT_TEXT,
    out: Path | None = None,
) -> dict[Strategy, Any]:
    """Learns and saves codebooks from the calibration part of a text, with bars."""
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
        strategy.layout(dims, job.window, devices, None)
    ids_WT = open_windows(model, text, "calibration", min(job.window, dims.context), job.windows, job.seed)
    with console.progress("reading text through the model", len(ids_WT)) as bar:
        samples = collect(model, strategies, devices, ids_WT, job, bar.update)
    data = {"source": text, "part": "calibration", "windows": len(ids_WT), "tokens": int(ids_WT.size)}
    found = {}
    for strategy in strategies:
        with console.progress(f"learning {strategy.codec.spec()}, by layer", dims.layers) as bar:
            found[strategy] = learn(model, strategy, devices, samples, job, data, bar.update, out)
    return found


def environment() -> dict[str, str]:
    """Versions and machine, to stand beside every number."""
    from importlib import metadata

    return {
        "thinwire": metadata.version("thinwire"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "platform": f"{jax.default_backend()}, {platform.machine()} {platform.system()}",
        "command": " ".join(["thinwire", *sys.argv[1:]]),
    }
