"""Work that only some devices do: skipped at run time on a mesh (under ``vmap`` both branches are computed).

Where a program is of one device only (``collectives.device_index``), what others do is not in it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Int

from thinwire.wire.collectives import device_index
from thinwire.wire.silence import place_alone
from thinwire.wire.spmd import is_virtual

# Each number of rows is a program of its own: where devices differ by fewer than this, they work on equally many.
BRANCH_ROWS = 16
MOST_PAIRS = 8  # of such numbers, of two devices that meet: of more, one's rows are worked on with their padding


def or_zeros(needed, function: Callable[..., Any], *arrays) -> Any:
    """``function(*arrays)`` where it is needed, else zeros of the same shapes.

    Args:
        needed: a boolean scalar that may depend on the device; nothing in ``function`` may communicate. Known when the
            program is traced, only one of the two is in it.
        function: what is skipped where it is not.
        arrays: that it is given.
    """

    def zeros(*arrays):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arrays))

    if isinstance(needed, (bool, np.bool_)):
        return (function if needed else zeros)(*arrays)
    return lax.cond(needed, function, zeros, *arrays)


@dataclasses.dataclass(frozen=True)
class FirstRows:
    """Of ``most`` rows, how many each device needs, the first ones: it works on so many, or on a few more.

    A program of all devices holds a function once for each of ``counts``.

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

    def each(self, function: Callable[..., Any], *arrays, device=None) -> Any:
        """``function`` of the first rows of arrays, as many as are worked on; zeros in place of the others, if given.

        Virtual devices, which would run the program of every count, work on all rows.

        Args:
            function: of arrays with a leading axis of rows, on each of which it works by itself; must not communicate.
            device: whose rows they are; this one's if left out.
        """
        if len(self.counts) < 2 or all_virtual():
            return function(*arrays)
        first = lambda count: lambda *arrays: _filled(function(*(x[:count] for x in arrays)), count, len(arrays[0]))
        device = device_index() if device is None else device
        if isinstance(device, int):
            return first(self.worked(device))(*arrays)
        which = jnp.asarray(self._which_N)[device]
        return lax.switch(which, [first(count) for count in self.counts], *arrays)

    @property
    def _which_N(self) -> Int[np.ndarray, " N"]:
        return np.searchsorted(self.counts, self.rows_N)


def first_rows(real_NR: Bool[np.ndarray, "N R"]) -> Int[np.ndarray, " N"]:
    """By device: rows up to the last one that is real."""
    last_N = real_NR.shape[1] - np.argmax(real_NR[:, ::-1], axis=1)
    return np.where(real_NR.any(axis=1), last_N, 0)


def each_pair(
    mine: FirstRows,
    theirs: FirstRows,
    other,
    meet_NN: Bool[np.ndarray, "N N"],
    function: Callable[[tuple, tuple], Any],
    my_rows: tuple,
    their_rows: tuple,
) -> Any:
    """``function`` of the first rows of this device and of another one; zeros in place of this one's other rows.

    The program holds it once for each pair of counts that devices which meet have (``meeting``); all rows on virtual
    devices.

    Args:
        mine, theirs: how many rows each device has for this device's part, and for the other one's.
        other: the device; one that meets this one.
        meet_NN: whether the first device ever asks for the second one.
        function: of arrays of this device's rows and of the other one's; what comes out has this device's rows.
        my_rows, their_rows: these arrays.
    """
    theirs = meeting(mine, theirs, meet_NN)
    counts = lambda n, m: (mine.worked(n), theirs.worked(m))
    pairs = sorted({counts(n, m) for n, m in np.argwhere(meet_NN).tolist()})
    if not pairs or all_virtual():
        return function(my_rows, their_rows)

    def first(count, their_count):
        cut = lambda rows, count: tuple(x[:count] for x in rows)
        return lambda my_rows, their_rows: _filled(
            function(cut(my_rows, count), cut(their_rows, their_count)), count, mine.most
        )

    which_NN = np.zeros(meet_NN.shape, np.int32)
    for n, m in np.argwhere(meet_NN).tolist():
        which_NN[n, m] = pairs.index(counts(n, m))
    which = jnp.asarray(which_NN)[device_index(), other]
    return lax.switch(which, [first(*pair) for pair in pairs], my_rows, their_rows)


def meeting(mine: FirstRows, theirs: FirstRows, meet_NN: Bool[np.ndarray, "N N"]) -> FirstRows:
    """The other devices' rows as they are worked on: all of them where there would be too many pairs of counts."""
    pairs = {(mine.worked(n), theirs.worked(m)) for n, m in np.argwhere(meet_NN).tolist()}
    few = len(pairs) <= MOST_PAIRS
    return theirs if few else FirstRows(np.full(len(theirs.rows_N), theirs.most), theirs.most)


def all_virtual() -> bool:
    """Whether what is being traced runs on virtual devices, each of which would run every branch."""
    return is_virtual() and place_alone() is None


def _filled(tree: Any, count: int, most: int) -> Any:
    return jax.tree.map(lambda x: jnp.pad(x, [(0, most - count), *[(0, 0)] * (x.ndim - 1)]), tree)
