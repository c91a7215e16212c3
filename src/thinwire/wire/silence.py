"""Local work alone: programs traced inside compute all that they would, and send nothing.

What a device would receive is its own payload instead. So the time of the others' payloads on the wire, and the
waiting for them, is what such a program takes less.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array

from thinwire.wire.callback import host_call

_silent: contextvars.ContextVar[bool] = contextvars.ContextVar("silent", default=False)
_place: contextvars.ContextVar[tuple[int, int] | None] = contextvars.ContextVar("place", default=None)


@contextlib.contextmanager
def silence(place: tuple[int, int] | None = None) -> Iterator[None]:
    """Nothing traced inside sends anything; outputs are of no use.

    Args:
        place: n and N: what is traced is device n's part of N, so that it can be run without the others being there.
    """
    tokens = _silent.set(True), _place.set(place)
    try:
        yield
    finally:
        _silent.reset(tokens[0])
        _place.reset(tokens[1])


def silent() -> bool:
    """Whether what is being traced sends nothing."""
    return _silent.get()


def place_alone() -> tuple[int, int] | None:
    """Which device of how many is being traced, if one is traced alone."""
    return _place.get()


def hold_back(packet: Array) -> None:
    """Has a packet computed though it is sent to nobody: else XLA leaves out what only others would hear."""
    host_call(lambda packet: np.int32(0), jax.ShapeDtypeStruct((), np.int32), packet)
