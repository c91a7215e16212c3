"""Read the container format GGUF: its metadata, and where its tensors lie.

The ``gguf`` package's reader makes several Python objects a token: seconds for a vocabulary of 49 thousand.
This one reads the same header in tens of milliseconds, and never looks past the end of a damaged file.
"""

import dataclasses
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError

# Value types of the format: struct codes of the scalars, by number. 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

# Elements and bytes of a block, by tensor type, of the types that are read without the gguf package.
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 30: (1, 2)}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor as stored: rows of whole blocks."""

    shape: tuple[int, ...]  # outermost axis first, elements
    kind: int  # GGML's number of the quantisation
    data: np.ndarray  # uint8, shape[:-1] + (bytes of a row,), mapped from the file


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """The contents of a GGUF file: metadata by key, tensors by name."""

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> GgufFile:
    """Open a GGUF file (versions 2 and 3, little-endian); tensors stay on disk until they are touched.

    Raises:
        ThinwireError: the file cannot be read, is not GGUF, or is truncated or corrupt.
    """
    try:
        with path.open("rb") as f:
            if f.seek(0, 2) < 24:
                raise ThinwireError(f"{path} is no GGUF file: it is shorter than a header")
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    if data[:4] != b"GGUF":
        raise ThinwireError(f"{path} is no GGUF file: it does not begin with the letters GGUF")
    version = int.from_bytes(data[4:8], "little")
    if version not in (2, 3):
        raise ThinwireError(f"{path} is of GGUF version {version}; versions 2 and 3, little-endian, are supported")
    cursor = _Cursor(data, 8)
    try:
        return _read_body(path, cursor, data)
    except (struct.error, ValueError, KeyError, OverflowError) as e:
        detail = str(e.args[0]) if isinstance(e, _CorruptError) else "it ends early or holds a wrong length"
        raise ThinwireError(
            f"{path} is truncated or corrupt: near byte {cursor.at} of {len(data)}, {detail}; fetch it again"
        ) from e


class _CorruptError(ValueError):
    """What is wrong, in words."""


class _Cursor:
    """Reads the little-endian values of the header one after another."""

    def __init__(self, data: mmap.mmap, at: int):
        self.data, self.at = data, at

    def scalar(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        length = self.scalar("Q")
        if length > len(self.data) - self.at:
            raise _CorruptError("a text is longer than the file")
        text = self.data[self.at : self.at + length].decode()
        self.at += length
        return text

    def strings(self, count: int) -> list[str]:
        """As ``string``, ``count`` times, with the loop kept tight: vocabularies are long."""
        data, at, out = self.data, self.at, []
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            start = at + 8
            at = start + unpack(data, at)[0]
            if at > len(data):
                raise _CorruptError("a text is longer than the file")
            out.append(data[start:at].decode())
        self.at = at
        return out

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise _CorruptError(f"metadata has the unknown type {kind}")
        of, count = self.scalar("I"), self.scalar("Q")
        if of == _STRING:
            return self.strings(count)
        if of not in _SCALARS:
            raise _CorruptError(f"an array has elements of the unknown type {of}")
        size = struct.calcsize("<" + _SCALARS[of])
        if count * size > len(self.data) - self.at:
            raise _CorruptError("an array is longer than the file")
        values = list(struct.unpack_from(f"<{count}{_SCALARS[of]}", self.data, self.at))
        self.at += count * size
        return values


def _read_body(path: Path, cursor: _Cursor, data: mmap.mmap) -> GgufFile:
    n_tensors, n_meta = cursor.scalar("Q"), cursor.scalar("Q")
    meta = {}
    for _ in range(n_meta):
        key = cursor.string()
        meta[key] = cursor.value(cursor.scalar("I"))
    infos = []
    for _ in range(n_tensors):
        name, n_dims = cursor.string(), cursor.scalar("I")
        if not 1 <= n_dims <= 4:
            raise _CorruptError(f"tensor {name!r} has {n_dims} axes")
        dims = tuple(cursor.scalar("Q") for _ in range(n_dims))
        infos.append((name, dims[::-1], cursor.scalar("I"), cursor.scalar("Q")))
    align = meta.get("general.alignment", 32)
    if not isinstance(align, int) or align < 1:
        raise _CorruptError(f"the alignment is {align}")
    start = -(-cursor.at // align) * align
    whole = np.frombuffer(data, np.uint8)
    tensors = {}
    for name, shape, kind, offset in infos:
        elements, size = _block(kind, name)
        if math.prod(shape) == 0 or shape[-1] % elements:
            raise _CorruptError(f"tensor {name!r} has the impossible shape {shape}")
        row = shape[-1] // elements * size
        begin, length = start + offset, math.prod(shape[:-1]) * row
        if begin + length > len(data):
            raise _CorruptError(f"tensor {name!r} should reach to byte {begin + length}")
        if name in tensors:
            raise _CorruptError(f"tensor {name!r} comes twice")
        tensors[name] = Tensor(shape, kind, whole[begin : begin + length].reshape(*shape[:-1], row))
    return GgufFile(path, meta, tensors)


def _block(kind: int, name: str) -> tuple[int, int]:
    """Elements and bytes of a block of this tensor type."""
    if kind in _BLOCKS:
        return _BLOCKS[kind]
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # slow to import, and seldom needed

    try:
        return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise _CorruptError(f"tensor {name!r} is of the unknown type {kind}") from None
