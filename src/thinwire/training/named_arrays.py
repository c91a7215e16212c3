"""Trees of arrays as named arrays in a safetensors file, and back: ``{"layers": {"wq": x}}`` is ``layers.wq``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

_STORED = {"float32": "F32", "float16": "F16"}


def flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a tree by their names, arrays on the host; shapes stay as they are."""
    leaves: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            leaves |= {f"{name}.{below}": leaf for below, leaf in flat(value).items()}
        else:
            leaves[name] = value if isinstance(value, tuple) else np.asarray(value)
    return leaves


def tree(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The tree that ``flat`` took apart."""
    found: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *above, last = name.split(".")
        place = found
        for one in above:
            place = place.setdefault(one, {})
        place[last] = leaf
    return found


def read(path: Path, dtype: str, check: Callable[[dict[str, tuple[int, ...]]], None]) -> dict[str, Any]:
    """The tree in a file, float32.

    Args:
        path: the file.
        dtype: what its arrays are stored as: ``float32`` or ``float16``.
        check: told the shapes by name before anything is read; raises ValueError where they are not as they should be.

    Raises:
        ValueError: in words, what is wrong with it.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            check({name: tuple(part.get_shape()) for name, part in parts.items()})
            for name, part in parts.items():
                if part.get_dtype() != _STORED.get(dtype):
                    raise ValueError(f"{name} is stored as {part.get_dtype()}, not {dtype}")
            leaves = {name: file.get_tensor(name).astype(np.float32) for name in parts}
    except SafetensorError as error:
        raise ValueError(f"{path.name} is truncated or corrupt") from error
    for name, array in leaves.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return tree(leaves)
