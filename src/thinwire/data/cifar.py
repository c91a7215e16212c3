"""CIFAR-100 in its published binary version: records of two labels and an image, one after another.

Format: A. Krizhevsky, "The CIFAR-10 dataset" page, section "CIFAR-100, binary version": the coarse label (of 20), the
fine one (of 100), and 1024 bytes each of red, green and blue, row by row.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from thinwire.errors import ThinwireError

FILES = {"train": "train.bin", "test": "test.bin"}
COARSE, FINE = 20, 100  # classes
_SIDE, _COLOURS = 32, 3
_RECORD = 2 + _COLOURS * _SIDE * _SIDE  # bytes


def read_cifar100(path: Path) -> tuple[UInt8[np.ndarray, "N 32 32 3"], Int32[np.ndarray, " N"]]:
    """Images and their fine labels, of a file of records.

    Raises:
        ThinwireError: the file cannot be read, holds broken records, or labels that CIFAR-100 does not have.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    if len(raw) % _RECORD:
        raise ThinwireError(
            f"{path} is truncated: its {len(raw)} bytes are no whole number of records of {_RECORD} bytes; get it again"
        )
    record_NB = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
    for what, labels_N, classes in (("coarse", record_NB[:, 0], COARSE), ("fine", record_NB[:, 1], FINE)):
        wrong = np.flatnonzero(labels_N >= classes)
        if len(wrong):
            raise ThinwireError(
                f"record {wrong[0]} of {path} has the {what} label {labels_N[wrong[0]]}, and CIFAR-100 has 0 to "
                f"{classes - 1}: give its binary version, not CIFAR-10's"
            )
    planes_NCYX = record_NB[:, 2:].reshape(-1, _COLOURS, _SIDE, _SIDE)
    return np.ascontiguousarray(planes_NCYX.transpose(0, 2, 3, 1)), record_NB[:, 1].astype(np.int32)
