"""A Llama from safetensors with Hugging Face's names: a folder, or one file with its ``config.json`` beside it."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - comes with jax, and teaches numpy bfloat16, which safe_open then returns
import numpy as np
from safetensors import SafetensorError, safe_open

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig
from thinwire.weights import llama_names
from thinwire.weights.assemble import Slot, assemble, check_config
from thinwire.weights.llama_json import llama_config_from_json
from thinwire.weights.tokenizer import TextTokenizer, from_tokenizer_json


def load_safetensors(path: Path) -> tuple[LlamaConfig, dict, TextTokenizer]:
    """Read a Llama from a folder as Hugging Face saves it, or from one ``.safetensors`` file in such a folder.

    Returns:
        The configuration, the parameter tree of ``param_shapes`` as float32 numpy arrays, and the tokenizer.

    Raises:
        ThinwireError: a file is missing or damaged, or the model would not be computed rightly.
    """
    folder = path if path.is_dir() else path.parent
    raw = read_json(folder / "config.json")
    config = check_config(llama_config_from_json(raw, folder / "config.json"), folder / "config.json")
    files: dict[str, safe_open] = {}  # by the name of a tensor
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path):
        opened, held = _open(file)
        for name in held:
            if name in files:
                raise ThinwireError(f"tensor {name} comes in two files of {folder}: the folder mixes two models")
            files[name] = opened
        shapes |= held

    def counts(name: str) -> bool:
        # Some files keep buffers that follow from the configuration, or the tied head once more.
        return not name.endswith("rotary_emb.inv_freq") and not (config.tied and name == "lm_head.weight")

    found = {name: shape for name, shape in shapes.items() if counts(name)}

    def read_into(slot: Slot, out: np.ndarray) -> None:
        out[...] = files[slot.name].get_tensor(slot.name)

    params = assemble(config, llama_names.HUGGING_FACE, found, read_into, path)
    generation = folder / "generation_config.json"
    ends = [*_ids(raw), *(_ids(read_json(generation)) if generation.is_file() else [])]
    tokenizer = from_tokenizer_json(folder / "tokenizer.json", ends)
    return config, params, tokenizer


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


def _open(path: Path) -> tuple[safe_open, dict[str, tuple[int, ...]]]:
    """One safetensors file, and the shapes of its tensors.

    Raises:
        ThinwireError: the file cannot be read, is truncated or corrupt, or holds other dtypes.
    """
    try:
        file = safe_open(path, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as e:
        raise ThinwireError(f"{path} is truncated or corrupt ({str(e)!r}): fetch it again") from e
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    for name, part in slices.items():
        if part.get_dtype() not in ("F32", "F16", "BF16"):
            raise ThinwireError(
                f"tensor {name} of {path} has dtype {part.get_dtype()}; F32, F16 and BF16 are supported"
            )
    return file, {name: tuple(part.get_shape()) for name, part in slices.items()}


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
