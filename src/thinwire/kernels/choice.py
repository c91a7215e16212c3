"""Which code a program is traced with: pure JAX that decodes, code tables in JAX, or Pallas kernels.

``tables`` attends to coded rows by merged keys or code tables (``attention/code_table.py``) where that takes fewer
operations than decoding them; outputs differ by rounding. ``auto`` is the same: no accelerator has been timed with
kernels. ``jax`` decodes everywhere. ``pallas`` is ``tables`` with kernels for the search and for attention; on a CPU
these are interpreted, slowly, which is for tests.
"""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Literal, get_args

from thinwire.errors import ThinwireError

Kernels = Literal["auto", "jax", "tables", "pallas"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)
VARIABLE = "THINWIRE_KERNELS"

_chosen: contextvars.ContextVar[Kernels | None] = contextvars.ContextVar("kernels", default=None)


@contextlib.contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """What is traced inside uses these, and so do engines that are made inside."""
    token = _chosen.set(parse_kernels(kernels))
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen() -> Kernels:
    """What programs are traced with now: what ``using`` says, or the environment variable, or ``auto``.

    Raises:
        ThinwireError: the environment variable holds something else.
    """
    return _chosen.get() or parse_kernels(os.environ.get(VARIABLE) or "auto", VARIABLE)


def parse_kernels(text: str, where: str = "kernels") -> Kernels:
    """One of ``KERNELS``.

    Raises:
        ThinwireError: it is none of them.
    """
    for name in KERNELS:
        if text == name:
            return name
    raise ThinwireError(f"{where}={text} is unknown; use one of {', '.join(KERNELS)}.")
