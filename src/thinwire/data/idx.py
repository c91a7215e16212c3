"""Arrays of bytes in the idx format of MNIST and its successors, plain or compressed with gzip.

Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits": two zero bytes, the type of a value,
the number of axes, the length of each (big-endian), and the values, the last axis running fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from thinwire.errors import ThinwireError

_BYTES = 0x08  # the type of values that are bytes; the format has others, these data sets do not
IMAGES, LABELS = 3, 1  # axes
_KINDS = {IMAGES: "images", LABELS: "labels"}


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """The array of a file of ``IMAGES`` (N, Y, X) or ``LABELS`` (N,); decompressed if its name ends in ``.gz``.

    Raises:
        ThinwireError: the file cannot be read, is something else, or holds another number of bytes than it says.
    """
    raw = _content(path)
    magic = bytes((0, 0, _BYTES, axes))
    if not magic.startswith(raw[: len(magic)]):
        raise ThinwireError(
            f"{path} begins with 0x{raw[:4].hex()} and not with 0x{magic.hex()}, so it is no idx file of "
            f"{_KINDS[axes]}: give the file that was published under this name"
        )
    head = len(magic) + 4 * axes
    if len(raw) < head:
        raise ThinwireError(f"{path} is truncated: it ends after {len(raw)} bytes, within its header; get it again")
    lengths = struct.unpack_from(f">{axes}I", raw, len(magic))
    promised, found = math.prod(lengths), len(raw) - head
    if found != promised:
        word = "truncated" if found < promised else "damaged"
        raise ThinwireError(
            f"{path} is {word}: its header promises {promised} bytes of {_KINDS[axes]} and {found} follow; get it again"
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(lengths)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise ThinwireError(f"{path} is no whole gzip file ({e}): get it again") from e
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
