"""The rows that a device works on: its own tokens, each stretch of them led in by a halo of the tokens before it."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from thinwire.attention.context import Queries, cut_tiles
from thinwire.branches import or_zeros
from thinwire.layout import PAD, TokenLayout
from thinwire.wire import collectives

# A branch makes one matrix product two: fewer rows than this are worked on by everybody.
BRANCH_ROWS = 24


@dataclasses.dataclass(frozen=True)
class WorkRows:
    """The tokens of a layout, and before each stretch up to ``halo`` tokens that another device owns.

    A device computes its halo like its own tokens and throws the result away in the end. So the first tokens of a
    stretch, which lose most by seeing their neighbours through codes, see them (nearly) exactly, and no bit is sent for
    it. The shared tokens are not among these rows. A halo ends at the shared tokens and at an earlier stretch of the
    same device, and is padded in front to the same length on every device.
    """

    layout: TokenLayout
    halo: int = 0

    @functools.cached_property
    def halos(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """By device and stretch: the half-open range of tokens of its halo."""

        def of(device):
            free = self.layout.shared
            for start, stop in device:
                yield (start, start) if start == stop else (max(free, start - self.halo), start)
                free = max(free, stop)

        return tuple(tuple(of(device)) for device in self.layout.segments)

    @functools.cached_property
    def _stretches(self) -> list[tuple[int, int, tuple[int, int]]]:
        """Of each stretch that any device has: its index, the length of its halo, and its rows in the layout."""
        longest = lambda ranges: [max(b - a for a, b in column) for column in zip(*ranges, strict=True)]
        real = [s for s, length in enumerate(longest(self.layout.segments)) if length]
        leads = longest(self.halos)
        return [(s, leads[s], rows) for s, rows in zip(real, self.layout.segment_rows, strict=True)]

    @functools.cached_property
    def positions_NW(self) -> Int[np.ndarray, "N W"]:
        """The position of each row, PAD where it holds no token."""
        rows = []
        for own_R, halos in zip(self.layout.positions_NR, self.halos, strict=True):
            parts = [np.zeros(0, np.int32)]
            for s, lead, (a, b) in self._stretches:
                start, stop = halos[s]
                parts += [np.full(lead - (stop - start), PAD), np.arange(start, stop), own_R[a:b]]
            rows.append(np.concatenate(parts))
        return np.asarray(rows, np.int32)

    def queries(self, causal: bool) -> Queries:
        """Which rows look for other devices' keys: all of these, behind the shared ones unless the model is causal."""
        halos_NS2 = np.asarray(self.halos, np.int32)[:, : len(self.halos[0]) if self.halo else 0]
        if causal or not self.layout.shared:
            return Queries(self.tiles, self.positions_NW, halos_NS2)
        S = self.layout.shared
        tiles = ((0, S), *((S + start, S + stop) for start, stop in self.tiles))
        shared_NS = np.tile(np.arange(S, dtype=np.int32), (self.layout.devices, 1))
        return Queries(tiles, np.concatenate([shared_NS, self.positions_NW], axis=1), halos_NS2)

    @functools.cached_property
    def places_NW(self) -> Int[np.ndarray, "N W"]:
        """Where the token of each row stands among all devices' own rows (N·R), N·R where there is no token."""
        device_T, row_T = self.layout.places
        place_T = device_T * self.layout.rows + row_T - self.layout.shared
        nowhere = self.layout.devices * self.layout.rows
        at = np.minimum(self.positions_NW, self.layout.tokens - 1)
        return np.where(self.positions_NW < PAD, place_T[at], nowhere).astype(np.int32)

    @functools.cached_property
    def _stretch_ends(self) -> list[int]:
        """Behind which row each stretch ends."""
        return np.cumsum([lead + b - a for _, lead, (a, b) in self._stretches], dtype=int).tolist()

    @functools.cached_property
    def own_R(self) -> Int[np.ndarray, " R"]:
        """The rows of the layout among these."""
        own = [
            np.arange(end - (b - a), end)
            for end, (_, _, (a, b)) in zip(self._stretch_ends, self._stretches, strict=True)
        ]
        return np.concatenate([np.zeros(0, int), *own])

    @functools.cached_property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Stretches, halo included, as (start, stop) of rows, cut to the size of a tile."""
        return cut_tiles(zip([0, *self._stretch_ends], self._stretch_ends, strict=False))

    def own(self, values_T):
        """The shared rows and the own ones, of shared ones and these."""
        if not self.halo:
            return values_T
        S = self.layout.shared
        return values_T[np.concatenate([np.arange(S), S + self.own_R])]

    @functools.cached_property
    def counts_N(self) -> Int[np.ndarray, " N"]:
        """By device: rows up to the last one that holds a token, the shared ones included."""
        real_NW = self.positions_NW < PAD
        last_N = real_NW.shape[1] - np.argmax(real_NW[:, ::-1], axis=1)
        return self.layout.shared + np.where(real_NW.any(axis=1), last_N, 0)

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Behind which rows, the shared ones included, some devices stop; few, as each costs a branch."""
        ends = sorted({int(count) for count in self.counts_N})
        kept = ends[-1:]
        for end in reversed(ends[:-1]):
            if kept[0] - end >= BRANCH_ROWS:
                kept.insert(0, end)
        return [*kept[:-1], self.layout.shared + self.positions_NW.shape[1]]

    def worked_rows(self, device: int) -> int:
        """How many rows, the shared ones included, a device works on."""
        return next(end for end in self._ends if end >= self.counts_N[device])

    def each_row(self, function, *rows_T):
        """``function`` of these rows behind the shared ones, without what lies behind a device's last token.

        All devices have equally many rows, as they run one program. The rows that only some of them fill sit behind a
        branch, so that a device with fewer tokens is done earlier.

        Args:
            function: of arrays with a leading axis of rows, on each of which it works by itself.
        """
        if len(self._ends) < 2:
            return function(*rows_T)
        count = jnp.asarray(self.counts_N)[collectives.device_index()]
        pieces = [function(*(x[: self._ends[0]] for x in rows_T))]
        for start, end in itertools.pairwise(self._ends):
            part = [x[start:end] for x in rows_T]
            pieces.append(or_zeros(count > start, function, *part))
        return jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *pieces)

    def heard(self, causal: bool) -> Bool[np.ndarray, " N"]:
        """By device: whether any other device sees its rows; nobody does those of the last tokens of a causal model."""
        return np.logical_or.reduce(self._seen_NN(causal), axis=0)

    def seen_rows(self, device: int, causal: bool) -> int:
        """Rows of other devices that a device decodes: all of a device's, if any of them is visible."""
        return int(self._seen_NN(causal)[device] @ np.asarray(self.layout.lengths))

    def _seen_NN(self, causal: bool) -> Bool[np.ndarray, "N N"]:
        """Whether the first device sees a row of the second one."""
        first_N = np.array([min(a for a, _ in own) for own in self.layout.segments])
        last_N = np.array([max(b for _, b in own) for own in self.layout.segments])
        others_NN = ~np.eye(self.layout.devices, dtype=bool)
        return others_NN & (first_N[None] < last_N[:, None]) if causal else others_NN

    def extra_pairs(self) -> tuple[int, ...]:
        """By device: (query, key) pairs of the halo's queries in a causal model."""
        return tuple(sum(sum(range(a + 1, b + 1)) for a, b in device) for device in self.halos)

    def extra_rows(self) -> tuple[int, ...]:
        """By device: tokens of its halos."""
        return tuple(sum(b - a for a, b in device) for device in self.halos)
