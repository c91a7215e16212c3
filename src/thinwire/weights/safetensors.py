"""A model from safetensors with Hugging Face's names: a folder, or one file with its ``config.json`` beside it."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - teaches numpy bfloat16, which safe_open then returns
from safetensors import SafetensorError, safe_open

from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES, Config
from thinwire.weights.assemble import Source, assemble
from thinwire.weights.huggingface import family_of
from thinwire.weights.tokenizer import TextTokenizer, from_tokenizer_json


def load_safetensors(path: Path) -> tuple[Config, dict, TextTokenizer | None]:
    """Read a model from a folder as Hugging Face saves it, or from one ``.safetensors`` file in such a folder.

    Returns:
        The configuration, the parameter tree of ``param_shapes`` as float32 numpy arrays, and the tokenizer (None for
        models that read no text).

    Raises:
        ThinwireError: a file is missing or damaged, or the model would not be computed rightly.
    """
    folder = path if path.is_dir() else path.parent
    raw = read_json(folder / "config.json")
    family = family_of(raw, folder / "config.json")
    config = family.config(raw, folder / "config.json")
    form = family.format(config)
    files: dict[str, safe_open] = {}  # by the name of a tensor
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path):
        opened, held = _open(file)
        for name, (dtype, shape) in held.items():
            if name in files:
                raise ThinwireError(f"tensor {name} comes in two files of {folder}: the folder mixes two models")
            if dtype not in ("F32", "F16", "BF16") and form.known_as(name) is not None:
                raise ThinwireError(f"tensor {name} of {file} has dtype {dtype}; F32, F16 and BF16 are supported")
            files[name], shapes[name] = opened, shape
    params = assemble(config, form, Source(path, shapes, lambda name: files[name].get_tensor(name)))
    if not FAMILIES[config.family].dims(config).inputs_known:
        return config, params, None
    generation = folder / "generation_config.json"
    ends = [*_ids(raw), *(_ids(read_json(generation)) if generation.is_file() else [])]
    return config, params, from_tokenizer_json(folder / "tokenizer.json", ends)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a model, in order: the file itself, the folder's one file, or the shards of its index.

    Raises:
        ThinwireError: there are none, or the index names a file that is not there.
    """
    if path.is_file():
        return [path]
    index, single = path / "model.safetensors.index.json", path / "model.safetensors"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ThinwireError(f"{path} holds neither model.safetensors nor model.safetensors.index.json")
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(v, str) and Path(v).name == v for v in table.values()):
        raise ThinwireError(f"{index} is damaged: it has no table of tensors and files")
    files = [path / name for name in sorted(set(table.values()))]
    for file in files:
        if not file.is_file():
            raise ThinwireError(f"{index} names {file.name}, which is not there: the download is incomplete")
    return files


def _open(path: Path) -> tuple[safe_open, dict[str, tuple[str, tuple[int, ...]]]]:
    """One safetensors file, and the types and shapes of its tensors.

    Raises:
        ThinwireError: the file cannot be read, is truncated or corrupt.
    """
    try:
        file = safe_open(path, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as e:
        raise ThinwireError(f"{path} is truncated or corrupt ({str(e)!r}): fetch it again") from e
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    return file, {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ThinwireError: the file is missing, unreadable, or no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e}): it belongs beside the weights") from e
    except (ValueError, RecursionError) as e:
        raise ThinwireError(f"{path} is not valid JSON ({e}): fetch it again") from e
    if not isinstance(value, dict):
        raise ThinwireError(f"{path} is not a JSON object: fetch it again")
    return value


def _ids(config: dict[str, Any]) -> list[Any]:
    ends = config.get("eos_token_id")
    return ends if isinstance(ends, list) else [ends]
