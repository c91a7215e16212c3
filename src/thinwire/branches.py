"""Work that only some devices do: skipped at run time on a mesh (under ``vmap`` both branches are computed)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Int

from thinwire.wire.collectives import device_index
from thinwire.wire.silence import place_alone
from thinwire.wire.spmd import is_virtual

# Each number of rows is a program of its own: where devices differ by fewer than this, they work on equally many.
BRANCH_ROWS = 32


def or_zeros(needed, function: Callable[..., Any], *arrays) -> Any:
    """``function(*arrays)`` where it is needed, else zeros of the same shapes.

    Args:
        needed: a boolean scalar that may depend on the device; nothing in ``function`` may communicate.
        function: what is skipped where it is not.
        arrays: that it is given.
    """

    def zeros(*arrays):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arrays))

    return lax.cond(needed, function, zeros, *arrays)


def row_counts(rows_N: Int[np.ndarray, " N"], most: int) -> list[int]:
    """On how many of ``most`` rows devices work that have tokens in so many of the first: ``most``, and a few less."""
    kept = [most]
    for count in sorted({max(1, int(count)) for count in rows_N}, reverse=True):
        if kept[0] - count >= BRANCH_ROWS:
            kept.insert(0, count)
    return kept


def first_rows(counts: list[int], rows_N: Int[np.ndarray, " N"], function: Callable[..., Any], *arrays) -> Any:
    """``function`` of the first rows of arrays, as many as this device needs; zeros in place of the others.

    All devices run one program, so it holds ``function`` once for each of ``counts``. Virtual devices, which would run
    all of them, work on all rows.

    Args:
        counts: of ``row_counts``.
        rows_N: how many rows each device needs.
        function: of arrays with a leading axis of rows, on each of which it works by itself; must not communicate.
    """
    if len(counts) < 2 or (is_virtual() and place_alone() is None):
        return function(*arrays)

    def first(count):
        def of_few(*arrays):
            fill = lambda x: jnp.pad(x, [(0, counts[-1] - count), *[(0, 0)] * (x.ndim - 1)])
            return jax.tree.map(fill, function(*(x[:count] for x in arrays)))

        return of_few

    which_N = np.searchsorted(counts, rows_N)
    return lax.switch(jnp.asarray(which_N)[device_index()], [first(count) for count in counts], *arrays)
