"""Local work alone: programs traced inside compute all that they would, and send nothing.

What a device would receive is its own payload instead. So the time of the others' payloads on the wire, and the
waiting for them, is what such a program takes less.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_silent: contextvars.ContextVar[bool] = contextvars.ContextVar("silent", default=False)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing traced inside sends anything; outputs are of no use."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def silent() -> bool:
    """Whether what is being traced sends nothing."""
    return _silent.get()
