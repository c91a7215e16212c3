"""Codebook sets in a quarter of their size: matrices as whole numbers of eight bits, a step for each of their rows.

A matrix ``name`` of float32 becomes ``name.int8`` and ``name.step``, with a last axis of one. What is small stays.
"""

from collections.abc import Mapping

import numpy as np

from thinwire.codecs.base import SHARED

Arrays = Mapping[str, Mapping[str, np.ndarray]]
_WHOLE, _STEP = ".int8", ".step"
_MOST = 127


def pack(arrays: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by site as they are stored: of each row (last axis) the largest value is 127 steps."""
    packed: dict[str, dict[str, np.ndarray]] = {}
    for site, of_site in arrays.items():
        packed[site] = {}
        for name, x in of_site.items():
            if x.ndim < (2 if site == SHARED else 3):
                packed[site][name] = x
                continue
            step = np.abs(x).max(axis=-1, keepdims=True) / np.float32(_MOST)
            whole = np.rint(np.divide(x, step, out=np.zeros_like(x), where=step > 0))
            packed[site] |= {name + _WHOLE: whole.astype(np.int8), name + _STEP: step}
    return packed


def unpack(packed: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """What ``pack`` was given, rounded; arrays that it would have left as they are, so are here.

    Raises:
        ValueError: whole numbers have no steps that fit them.
    """
    return {site: _unpacked(site, of_site) for site, of_site in packed.items()}


def rounded(arrays: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Arrays as they come out of a set that is stored so."""
    return unpack(pack(arrays))


def stored_dtype(name: str) -> type[np.generic]:
    """The type of an array of that name in a stored set."""
    return np.int8 if name.endswith(_WHOLE) else np.float32


def _unpacked(site: str, of_site: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, x in of_site.items():
        if name.endswith(_WHOLE):
            of = name.removesuffix(_WHOLE)
            step = of_site.get(of + _STEP)
            if step is None or step.shape != (*x.shape[:-1], 1):
                raise ValueError(f"{name} at site {site} has no steps of its shape")
            found[of] = x.astype(np.float32) * step
        elif not (name.endswith(_STEP) and name.removesuffix(_STEP) + _WHOLE in of_site):
            found[name] = x
    return found
