"""A Llama from safetensors with Hugging Face's names: a folder, or one file with its ``config.json`` beside it.

The header is read here rather than with the safetensors package, whose numpy reader knows no bfloat16: this way every
tensor is widened straight from the mapped file into its place.
"""

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig
from thinwire.weights import llama_names
from thinwire.weights.assemble import Slot, assemble, check_config
from thinwire.weights.dequantise import bf16_to_f32
from thinwire.weights.llama_json import llama_config_from_json
from thinwire.weights.tokenizer import TextTokenizer, from_tokenizer_json

_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


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
    tensors: dict[str, np.ndarray] = {}
    for file in weight_files(path):
        for name, tensor in read_tensors(file).items():
            if name in tensors:
                raise ThinwireError(f"tensor {name} comes in two files of {folder}: the folder mixes two models")
            tensors[name] = tensor

    def counts(name: str) -> bool:
        # Some files keep buffers that follow from the configuration, or the tied head once more.
        return not name.endswith("rotary_emb.inv_freq") and not (config.tied and name == "lm_head.weight")

    found = {name: tensor.shape for name, tensor in tensors.items() if counts(name)}

    def read_into(slot: Slot, out: np.ndarray) -> None:
        tensor = tensors[slot.name]
        out[...] = bf16_to_f32(tensor) if tensor.dtype == np.uint16 else tensor

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


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one safetensors file, mapped read-only: float32, float16, or bfloat16 as its uint16 bits.

    Raises:
        ThinwireError: the file cannot be read, is truncated or corrupt, or holds other dtypes.
    """
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size > 8 else b""
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    try:
        length = int.from_bytes(data[:8], "little")
        if not 2 <= length <= len(data) - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(data[8 : 8 + length])
        body = np.frombuffer(data, np.uint8)[8 + length :]
        return {k: _tensor(k, v, body, path) for k, v in header.items() if k != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:  # UnicodeError, JSONDecodeError too
        raise ThinwireError(f"{path} is truncated or corrupt ({e}): fetch it again") from e


def _tensor(name: str, info: dict[str, Any], body: np.ndarray, path: Path) -> np.ndarray:
    kind, shape, (begin, end) = info["dtype"], tuple(info["shape"]), info["data_offsets"]
    if kind not in _DTYPES:
        raise ThinwireError(f"tensor {name} of {path} has dtype {kind}; F32, F16 and BF16 are supported")
    dtype = np.dtype(_DTYPES[kind])
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"tensor {name!r} has impossible numbers")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name!r} has a length that is not its shape's")
    if end > len(body):
        raise ValueError(f"tensor {name!r} reaches past the end")
    return body[begin:end].view(dtype).reshape(shape)


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
