"""The rows that a device works on: its own tokens, each stretch of them led in by a halo of the tokens before it."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from thinwire.attention.context import Queries, cut_tiles
from thinwire.branches import FirstRows, first_rows
from thinwire.layout import PAD, TokenLayout
from thinwire.wire import collectives


@dataclasses.dataclass(frozen=True)
class WorkRows:
    """The tokens of a layout, and before each stretch up to ``halo`` tokens that another device owns.

    A device computes its halo like its own tokens and throws the result away in the end. So the first tokens of a
    stretch, which lose most by seeing their neighbours through codes, see them (nearly) exactly, and no bit is sent for
    it. The shared tokens are not among these rows. A halo ends at the shared tokens and at an earlier stretch of the
    same device. Halo and stretch together are padded behind to the same length on every device, so that one without a
    halo may have more tokens of its own.
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
        """Of each stretch that any device has: its index, its rows here, halo included, and those in the layout."""
        length = lambda span: span[1] - span[0]
        found = []
        for s, column in enumerate(zip(*self.layout.segments, strict=True)):
            if any(length(own) for own in column):
                width = max(length(halos[s]) + length(own) for halos, own in zip(self.halos, column, strict=True))
                found.append((s, width))
        return [(s, width, rows) for (s, width), rows in zip(found, self.layout.segment_rows, strict=True)]

    @functools.cached_property
    def positions_NW(self) -> Int[np.ndarray, "N W"]:
        """The position of each row, PAD where it holds no token."""
        rows = []
        for own_R, halos in zip(self.layout.positions_NR, self.halos, strict=True):
            parts = [np.zeros(0, np.int32)]
            for s, width, (a, b) in self._stretches:
                real = np.concatenate([np.arange(*halos[s]), own_R[a:b]])[:width]
                parts += [real, np.full(width - len(real), PAD)]
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
        return np.cumsum([width for _, width, _ in self._stretches], dtype=int).tolist()

    @functools.cached_property
    def own_NR(self) -> Int[np.ndarray, "N R"]:
        """By device: where the rows of the layout are among these; any row for those that hold no token."""
        rows = []
        for halos in self.halos:
            parts = [np.zeros(0, np.int32)]
            for end, (s, width, (a, b)) in zip(self._stretch_ends, self._stretches, strict=True):
                start, stop = halos[s]
                parts.append(np.minimum(end - width + stop - start + np.arange(b - a), end - 1))
            rows.append(np.concatenate(parts))
        return np.asarray(rows, np.int32)

    @functools.cached_property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Stretches, halo included, as (start, stop) of rows, cut to the size of a tile."""
        return cut_tiles(zip([0, *self._stretch_ends], self._stretch_ends, strict=False))

    def own(self, values_T):
        """The shared rows and the own ones, of shared ones and these; those behind the last token may be left out."""
        S = self.layout.shared
        if not self.halo and len(values_T) == S + self.layout.rows:
            return values_T
        here_R = jnp.asarray(collectives.of_this_device(self.own_NR))
        return jnp.concatenate([values_T[:S], jnp.take(values_T[S:], here_R, axis=0, mode="clip")])

    @functools.cached_property
    def counts_N(self) -> Int[np.ndarray, " N"]:
        """By device: rows up to the last one that holds a token, the shared ones included."""
        return self.layout.shared + first_rows(self.positions_NW < PAD)

    @functools.cached_property
    def _rows(self) -> FirstRows:
        """All rows, the shared ones included."""
        return FirstRows(self.counts_N, self.layout.shared + self.positions_NW.shape[1])

    def worked_rows(self, device: int) -> int:
        """How many rows, the shared ones included, a device works on."""
        return self._rows.worked(device)

    def each_row(self, function, *rows_T):
        """``function`` of the shared rows and these, without what lies behind a device's last token.

        Args:
            function: of arrays with a leading axis of rows, on each of which it works by itself.
        """
        return self._rows.each(function, *rows_T)

    def heard(self, causal: bool) -> Bool[np.ndarray, " N"]:
        """By device: whether any other device sees its rows; nobody does those of the last tokens of a causal model."""
        return np.logical_or.reduce(self.looks(causal), axis=0)

    def seen_rows(self, device: int, causal: bool) -> int:
        """Rows of other devices that a device decodes: all of a device's, if any of them is visible."""
        return int(self.looks(causal)[device] @ np.asarray(self.layout.lengths))

    def looks(self, causal: bool) -> Bool[np.ndarray, "N N"]:
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
