"""A Llama from a GGUF file: configuration, parameters and tokenizer.

GGUF stores the rows of the query and key matrices in pairs for interleaved rotary positions (elements 2i and 2i+1
turn together); our model, like Hugging Face's, turns element i with i + d/2. So those rows are put back in that order.
"""

import dataclasses
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig, RopeScaling
from thinwire.weights.assemble import Source, assemble
from thinwire.weights.llama_json import check_llama
from thinwire.weights.llama_names import gguf_format
from thinwire.weights.tokenizer import TextTokenizer, from_gguf

_ROPE_FACTORS = "rope_freqs.weight"
_REFUSED = ("attention.scale", "attention.sliding_window", "logit_scale", "residual_scale", "embedding_scale")
_ARRAY = int(gguf.GGUFValueType.ARRAY)  # compared once a token, and an enumeration is slow to compare
_LONGEST_ARRAY = 2**21  # of metadata: vocabularies and their merges have some hundred thousand elements


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """The contents of a GGUF file: metadata by key, tensors by name (on disk until they are touched)."""

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, gguf.ReaderTensor]


def load_gguf(path: Path) -> tuple[LlamaConfig, dict, TextTokenizer]:
    """Read a Llama from one GGUF file.

    Returns:
        The configuration, the parameter tree of ``param_shapes`` as float32 numpy arrays, and the tokenizer.

    Raises:
        ThinwireError: the file cannot be read, is damaged, or is of a model that would not be computed rightly.
    """
    file = _read(path)
    config = check_llama(_config(file), path)
    tokenizer = from_gguf(file.meta, path)
    if tokenizer.vocab > config.V:
        raise ThinwireError(f"{path} holds {tokenizer.vocab} tokens but embeddings of {config.V}: the file is damaged")

    def read(name: str) -> np.ndarray:
        tensor = file.tensors[name]
        rows = np.asarray(tensor.data)  # a memmap's slices are slow, and the package makes many
        if name.endswith((".attn_q.weight", ".attn_k.weight")):
            rows = half_split_rows(rows, config.d)
        try:
            return dequantize(rows, tensor.tensor_type)
        except NotImplementedError as e:
            name = tensor.tensor_type.name
            raise ThinwireError(
                f"tensors of GGUF type {name} cannot be read: use a Q8_0, Q6_K, Q4_K or F16 file"
            ) from e

    source = Source(path, {name: _shape(tensor) for name, tensor in file.tensors.items()}, read)
    return config, assemble(config, gguf_format(), source), tokenizer


def half_split_rows(rows: np.ndarray, d: int) -> np.ndarray:
    """Reorder the rows of each head from rotary pairs (2i, 2i+1) to halves (i, i + d/2); shape (heads·d, anything)."""
    n, width = rows.shape
    return rows.reshape(n // d, d // 2, 2, width).swapaxes(1, 2).reshape(n, width)


def interleaved_rows(rows: np.ndarray, d: int) -> np.ndarray:
    """The inverse of ``half_split_rows``: the order in which GGUF stores queries and keys."""
    n, width = rows.shape
    return rows.reshape(n // d, 2, d // 2, width).swapaxes(1, 2).reshape(n, width)


class _Reader(gguf.GGUFReader):
    """The package's reader, which by itself is slow, and steps through an array far past a damaged file's end."""

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        order = self.byte_order if override_order is None else override_order
        # Not the file's memmap itself: each of its slices is one too, and a vocabulary takes some hundred thousand.
        return np.frombuffer(np.asarray(self.data), np.dtype(dtype).newbyteorder(order), int(count), int(offset))

    def _get_field_parts(self, orig_offs: int, raw_type: Any) -> Any:
        if raw_type == _ARRAY:  # the type of the elements (4 bytes), then their count
            count = int(self._get(orig_offs + 4, np.uint64)[0])
            if count > min(_LONGEST_ARRAY, len(self.data) - orig_offs):
                raise ValueError(f"an array of {count} elements")
        return super()._get_field_parts(orig_offs, raw_type)


def _read(path: Path) -> GgufFile:
    """Open a GGUF file (versions 2 and 3, little-endian).

    Raises:
        ThinwireError: the file cannot be read, is not GGUF, or is truncated or corrupt.
    """
    try:
        with path.open("rb") as f:
            start = f.read(8)
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    if start[:4] != b"GGUF":
        raise ThinwireError(f"{path} is no GGUF file: it does not begin with the letters GGUF")
    version = int.from_bytes(start[4:], "little")
    if version not in (2, 3):
        raise ThinwireError(f"{path} is of GGUF version {version}; versions 2 and 3, little-endian, are supported")
    try:
        with np.errstate(over="raise"):  # an offset that wraps around is a wrong one
            reader = _Reader(path)
            meta = {key: field.contents() for key, field in reader.fields.items()}
    except (ArithmeticError, LookupError, ValueError, MemoryError, RecursionError) as e:  # whatever it runs into
        raise ThinwireError(f"{path} is truncated or corrupt ({str(e)!r}): fetch it again") from e
    return GgufFile(path, meta, {tensor.name: tensor for tensor in reader.tensors})


def _shape(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    """Elements along each axis, the outermost first."""
    return tuple(int(n) for n in reversed(tensor.shape))


def _config(file: GgufFile) -> LlamaConfig:
    meta, path = file.meta, file.path
    arch = meta.get("general.architecture")
    if arch != "llama":
        raise ThinwireError(f"{path} holds a model of architecture {arch!r}, and only 'llama' is supported")
    if _optional(file, "split.count", int, 1) > 1:
        raise ThinwireError(
            f"{path} is one part of a split GGUF file: join the parts first (`llama-gguf-split --merge`)"
        )
    if _optional(file, "llama.expert_count", int, 0) > 0:
        raise ThinwireError(f"{path} holds a mixture of experts, which is not supported")
    for key in _REFUSED:
        if f"llama.{key}" in meta:
            raise ThinwireError(f"{path} sets llama.{key}, which is not supported")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(_shape(embedding)) != 2:
        raise ThinwireError(f"{path} lacks the tensor token_embd.weight: the file is incomplete or not a plain Llama")
    width, heads = _required(file, "llama.embedding_length"), _required(file, "llama.attention.head_count")
    kv_heads = _optional(file, "llama.attention.head_count_kv", int, heads)
    if heads < 1 or kv_heads < 1:
        raise ThinwireError(f"{path} gives {heads} query heads and {kv_heads} key/value heads: the file is damaged")
    d = _optional(file, "llama.attention.key_length", int, width // heads)
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if _optional(file, key, int, d) != d:
            raise ThinwireError(f"{path} sets {key} to {meta[key]} where heads have width {d}: this is not supported")
    return LlamaConfig(
        D=width,
        L=_required(file, "llama.block_count"),
        H=heads,
        K=kv_heads,
        d=d,
        F=_required(file, "llama.feed_forward_length"),
        V=_shape(embedding)[0],
        context=_required(file, "llama.context_length"),
        rope_theta=_short(_optional(file, "llama.rope.freq_base", float, 10000.0)),
        norm_eps=_short(_required(file, "llama.attention.layer_norm_rms_epsilon", float)),
        tied="output.weight" not in file.tensors,
        rope_scaling=_rope_scaling(file, d),
    )


def _rope_scaling(file: GgufFile, d: int) -> RopeScaling | None:
    """The scaling that the file's metadata or table of factors means; refuses all but Llama 3's."""
    kind = file.meta.get("llama.rope.scaling.type", "none")
    factor = file.meta.get("llama.rope.scaling.factor", 1.0)
    if kind not in ("none", "linear") or (kind == "linear" and factor != 1.0):
        raise ThinwireError(f"{file.path} scales rotary positions by {kind!r}, and only Llama 3's way is supported")
    if file.meta.get("llama.rope.scale_linear", 1.0) != 1.0:
        raise ThinwireError(f"{file.path} scales rotary positions linearly, which is not supported")
    tensor = file.tensors.get(_ROPE_FACTORS)
    if tensor is None:
        return None
    theta = _optional(file, "llama.rope.freq_base", float, 10000.0)
    if tensor.tensor_type == gguf.GGMLQuantizationType.F32 and _shape(tensor) == (d // 2,):
        factors = np.asarray(tensor.data)
        if np.all(factors == 1):
            return None
        # The file keeps only the factors: try the published settings (Llama 3.1 and later differ in the factor alone).
        scaling = RopeScaling(float(factors.max()), 1.0, 4.0, 8192)
        if np.allclose(factors, llama3_factors(scaling, theta, d), rtol=1e-3):
            return scaling
    raise ThinwireError(
        f"the table {_ROPE_FACTORS} of {file.path} does not follow Llama 3's rule: use the model's safetensors folder"
    )


def llama3_factors(scaling: RopeScaling, theta: float, d: int) -> np.ndarray:
    """By what Llama 3 divides each rotary frequency, float64 (d/2,): what GGUF stores as ``rope_freqs.weight``."""
    wavelength = 2 * np.pi * theta ** (np.arange(0, d, 2) / d)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((scaling.original_context / wavelength - low) / (high - low), 0.0, 1.0)
    return 1 / ((1 - smooth) / scaling.factor + smooth)


def _short(x: float) -> float:
    """The shortest decimal that rounds to the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(x)))


def _required(file: GgufFile, key: str, kind: type = int) -> Any:
    if key not in file.meta:
        raise ThinwireError(f"{file.path} lacks the setting {key}: the file is incomplete or not a plain Llama")
    return _optional(file, key, kind, None)


def _optional(file: GgufFile, key: str, kind: type, default: Any) -> Any:
    value = file.meta.get(key, default)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ThinwireError(
            f"{file.path} sets {key} to {str(value)[:40]!r}, which is not supported (or the file is damaged)"
        )
    return value
