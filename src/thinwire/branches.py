"""Work that only some devices do: skipped at run time on a mesh (under ``vmap`` both branches are computed)."""

import dataclasses
import functools
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


@dataclasses.dataclass(frozen=True)
class FirstRows:
    """Of ``most`` rows, how many each device needs, the first ones: it works on so many, or on a few more.

    All devices run one program, which holds a function once for each of ``counts``.

    Attributes:
        rows_N: how many rows each device needs.
    """

    rows_N: Int[np.ndarray, " N"]
    most: int

    @functools.cached_property
    def counts(self) -> list[int]:
        """The numbers of rows that devices work on, ascending."""
        kept = [self.most]
        for count in sorted({max(1, int(count)) for count in self.rows_N}, reverse=True):
            if kept[0] - count >= BRANCH_ROWS:
                kept.insert(0, count)
        return kept

    def worked(self, device: int) -> int:
        """How many rows a device works on."""
        return self.counts[self._which_N[device]]

    def each(self, function: Callable[..., Any], *arrays) -> Any:
        """``function`` of the first rows of arrays, as many as this device works on; zeros in place of the others.

        Virtual devices, which would run the program of every count, work on all rows.

        Args:
            function: of arrays with a leading axis of rows, on each of which it works by itself; must not communicate.
        """
        if len(self.counts) < 2 or (is_virtual() and place_alone() is None):
            return function(*arrays)

        def first(count):
            def of_few(*arrays):
                fill = lambda x: jnp.pad(x, [(0, self.most - count), *[(0, 0)] * (x.ndim - 1)])
                return jax.tree.map(fill, function(*(x[:count] for x in arrays)))

            return of_few

        which = jnp.asarray(self._which_N)[device_index()]
        return lax.switch(which, [first(count) for count in self.counts], *arrays)

    @property
    def _which_N(self) -> Int[np.ndarray, " N"]:
        return np.searchsorted(self.counts, self.rows_N)
