"""A model by its name: ``shape:NAME``, a catalogue name, a path, or a Hub id."""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.families import Config
from thinwire.models.vit_config import ViTConfig
from thinwire.models.vit_positions import nearest_grid, resized
from thinwire.weights.byte_tokenizer import ByteTokenizer
from thinwire.weights.cache import sha256_file
from thinwire.weights.catalogue import MODELS
from thinwire.weights.fetch import Progress, fetch
from thinwire.weights.gguf import load_gguf
from thinwire.weights.hub import fetch_from_hub
from thinwire.weights.onnx import load_onnx
from thinwire.weights.safetensors import load_safetensors, weight_files
from thinwire.weights.shapes import SHAPES, random_params, shape_config
from thinwire.weights.tokenizer import TextTokenizer
from thinwire.weights.variants import variant, variant_sha256

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
Loaded = tuple[Config, dict, TextTokenizer | None]
# By ending.
_READERS: dict[str, Callable[[Path], Loaded]] = {
    ".gguf": load_gguf,
    ".safetensors": load_safetensors,
    ".onnx": load_onnx,
}


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, whatever it was read from."""

    name: str  # as asked for
    family: str
    config: Any  # of the family
    params: dict  # numpy float32, shaped as the family's param_shapes(config)
    tokenizer: TextTokenizer | ByteTokenizer | None  # None for shapes, and for models that read no text
    sha256: str  # the identity that codebooks are made for


def load_model(name: str, progress: Progress | None = None) -> LoadedModel:
    """Load a model.

    Args:
        name: ``shape:NAME`` (``shape:NAME:layers=N`` for another depth), a catalogue name (``NAME:patch=7:…`` for a
            vision Transformer changed as ``variants`` has it), the path of a GGUF file, a safetensors file or a
            folder, or a Hub id; tried in this order.
        progress: called while downloading, with bytes so far and bytes in all.

    Raises:
        ThinwireError: the name means nothing, or what it names cannot be fetched, read or run.
    """
    if name.startswith("shape:"):
        config = shape_config(name.removeprefix("shape:"))
        if config is None:
            raise _unknown(name)
        return _loaded(name, config, random_params(config), None, hashlib.sha256(name.encode()).hexdigest())
    if name in MODELS:
        path = fetch(MODELS[name], progress)
        return _loaded(name, *_READERS[path.suffix](path), MODELS[name].sha256)
    known, _, options = name.partition(":")
    if known in MODELS and options:
        of = load_model(known, progress)
        config, params = variant(of.config, of.params, options)
        return _loaded(name, config, params, of.tokenizer, variant_sha256(of.sha256, options))
    path = Path(name).expanduser()
    if not name or not _exists(path):
        if path.suffix in _READERS or not _HUB_ID.fullmatch(name):
            raise _unknown(name)
        path = fetch_from_hub(name)
    if path.is_dir() or path.suffix == ".safetensors":
        return _loaded(name, *load_safetensors(path), _folder_sha256(path))
    if path.suffix in _READERS:
        return _loaded(name, *_READERS[path.suffix](path), sha256_file(path))
    raise ThinwireError(
        f"{path} is not a model: give a {' or '.join(_READERS)} file, or a folder with config.json and safetensors"
    )


def for_tokens(model: LoadedModel, tokens: int) -> LoadedModel:
    """The model for sequences of so many tokens.

    A vision Transformer's positions are resized to the most nearly square grid of that many patches, behind the class
    token; of an image of exactly that grid it then computes what it would have. Other models are returned as they are.

    Raises:
        ThinwireError: there is no token for a patch.
    """
    if not isinstance(model.config, ViTConfig):
        return model
    if tokens < 2:
        raise ThinwireError(f"{tokens} tokens are a class token and no patch; ask for at least 2")
    return for_grid(model, model.config.grid if tokens == model.config.tokens else nearest_grid(tokens - 1))


def for_grid(model: LoadedModel, grid: tuple[int, int]) -> LoadedModel:
    """A vision Transformer with its positions resized to so many rows and columns of patches."""
    config, params = resized(model.config, model.params, grid)
    return dataclasses.replace(model, config=config, params=params)


def _loaded(
    name: str, config: Config, params: dict, tokenizer: TextTokenizer | ByteTokenizer | None, sha256: str
) -> LoadedModel:
    return LoadedModel(name, config.family, config, params, tokenizer, sha256)


def _folder_sha256(path: Path) -> str:
    """One hash over the configuration and every weight file."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    hashes = "".join(sha256_file(file) for file in [config, *weight_files(path)])
    return hashlib.sha256(hashes.encode()).hexdigest()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _unknown(name: str) -> ThinwireError:
    known = [*MODELS, *(f"shape:{shape}" for shape in SHAPES)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f", did you mean {close[0]}?" if close else ";"
    looked = f" and there is no file {name}" if Path(name).suffix in _READERS else ""
    return ThinwireError(
        f"unknown model {name!r}{looked}{hint} known are {', '.join(known)}, "
        "or give the path of a .gguf file or of a folder with safetensors, or a Hub id org/name"
    )
