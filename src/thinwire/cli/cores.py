"""A measurement on some of this machine's cores."""

import contextlib
import os
from collections.abc import Iterator

from thinwire.errors import ThinwireError


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[int]:
    """Runs on so many of the cores, where the system allows to choose; how many it is.

    Raises:
        ThinwireError: there are not so many.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(before):
        raise ThinwireError(f"--cores is {count}; this machine has 1 to {len(before)} of them.")
    os.sched_setaffinity(0, before[:count])  # JAX counts them when it makes its first array
    try:
        yield count
    finally:
        os.sched_setaffinity(0, before)
