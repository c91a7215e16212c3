"""Mixed-precision attention: own rows exact, other devices' rows as they were decoded; masked work is skipped.

The rows that a device holds come in *tiles*, stretches with ascending positions. Within the own rows, and where all
keys are in order (``last_attention``), which tiles see which is known when the program is traced. Where other devices'
rows are added one device after another, it depends on who runs the program, so each pair of tiles sits behind a
``lax.cond``: skipped at run time on a mesh (under ``vmap`` both branches are computed).
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from thinwire.attention.partial import Partial, finish, merge, nothing, partial_attention
from thinwire.branches import FirstRows, each_pair, first_rows, or_zeros
from thinwire.layout import PAD, TokenLayout

TILE = 512
CAUSAL_TILE, MOST_TILES = 128, 8  # among own rows: rows of a tile, and how many a stretch has at most


def tiles(layout: TokenLayout) -> tuple[tuple[int, int], ...]:
    """The own rows of a device, without the shared ones, as (start, stop) of about TILE rows within a segment."""
    return cut_tiles(layout.segment_rows)


def cut_tiles(stretches: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Stretches of rows as (start, stop), in equal parts of about TILE rows."""

    def cut(start, stop):
        rows = -(-(stop - start) // max(1, round((stop - start) / TILE)))
        return ((a, min(a + rows, stop)) for a in range(start, stop, rows))

    return tuple(tile for start, stop in stretches if start < stop for tile in cut(start, stop))


def keys_of(layout: TokenLayout, tile: tuple[int, int]) -> FirstRows:
    """The rows of a tile of keys up to the last token, by device."""
    start, stop = tile
    return FirstRows(first_rows(layout.valid_NR[:, start:stop]), stop - start)


def pairs_of(
    layout: TokenLayout, queries: "Queries", tile: tuple[int, int], key_tile: tuple[int, int], causal: bool
) -> tuple[tuple[FirstRows, FirstRows], Bool[np.ndarray, "N N"]]:
    """By device, the rows of a tile of queries and of one of keys; and whether the first device looks at the second."""
    first_N = layout.positions_NR[:, slice(*key_tile)].min(axis=1)
    last_N = np.asarray([_last(row) for row in queries.positions_NW[:, slice(*tile)]])
    visible_NN = first_N[None] <= last_N[:, None] if causal else np.ones((len(first_N),) * 2, bool)
    return (queries.rows_of(tile), keys_of(layout, key_tile)), visible_NN & ~np.eye(layout.devices, dtype=bool)


@jax.named_scope("attend_own")
def exact_attention(
    q_THd: Float[Array, "T H d"],
    k_TKd: Float[Array, "T K d"],
    v_TKd: Float[Array, "T K d"],
    position_T: Int[Array, " T"],
    bounds: tuple[tuple[int, int], ...],
    scale: float,
    causal: bool,
    padded: bool = True,
    count: tuple[int, Int[Array, ""]] | None = None,
) -> list[Partial]:
    """Attention among rows that are all here, a part for each stretch of ``bounds``; ascending positions if causal.

    Where no row is ``padded`` and the model is not causal, there is nothing to hide. Of ``count``, rows up to the last
    one that holds a token, the least of all devices and this device's are given: tiles behind it are left out.
    """

    def part(start, stop):
        seen = stop if causal else k_TKd.shape[0]
        keys = position_T[:seen]
        if causal:
            visible = keys[None] <= position_T[start:stop, None]
        else:
            visible = jnp.broadcast_to((keys < PAD)[None], (stop - start, seen)) if padded else None
        attend = lambda: partial_attention(q_THd[start:stop], k_TKd[:seen], v_TKd[:seen], visible, scale)
        if count is None or start < count[0]:
            return attend()
        return lax.cond(count[1] > start, attend, lambda: nothing(stop - start, *q_THd.shape[1:]))

    def parts(start, stop):
        # Later keys are left out tile by tile; a few tiles, as each is a program of its own.
        rows = max(CAUSAL_TILE, -(-(stop - start) // MOST_TILES)) if causal else stop - start
        tiles = [part(a, min(a + rows, stop)) for a in range(start, stop, rows)]
        return jax.tree.map(lambda *tiles: jnp.concatenate(tiles), *tiles)

    return [parts(start, stop) for start, stop in bounds]


def last_attention(
    q_THd: Float[Array, "T H d"], k_SKd: Float[Array, "S K d"], v_SKd: Float[Array, "S K d"], scale: float
) -> Float[Array, "T H d"]:
    """Causal attention of the last T of S tokens; keys later than a tile of queries are left out."""
    (T, H, _), S, outs = q_THd.shape, k_SKd.shape[0], []
    for start in range(0, T, CAUSAL_TILE):
        stop = min(start + CAUSAL_TILE, T)
        seen = S - T + stop
        visible = jnp.arange(seen)[None] <= jnp.arange(S - T + start, seen)[:, None]
        outs.append(partial_attention(q_THd[start:stop], k_SKd[:seen], v_SKd[:seen], visible, scale))
    return join_parts(outs, H, v_SKd.shape[2])


class Queries(NamedTuple):
    """The rows of a device that look for remote keys: which rows make a tile, and their positions on every device.

    ``exact_NS2`` are ranges of positions that a device holds exactly though another device owns them.
    """

    tiles: tuple[tuple[int, int], ...]
    positions_NW: Int[np.ndarray, "N W"]
    exact_NS2: Int[np.ndarray, "N S 2"]

    def rows_of(self, tile: tuple[int, int]) -> FirstRows:
        """The rows of a tile that hold tokens, by device."""
        return FirstRows((self.positions_NW[:, slice(*tile)] < PAD).sum(axis=1), tile[1] - tile[0])


class RemoteAttention:
    """Adds other devices' decoded rows, device by device, to the parts of the own queries' tiles.

    Args:
        layout: which device holds which positions.
        queries: the rows that ask.
        q_WHd: their queries, rotated.
        position_W: their positions.
        causal: hide keys later than the query.
    """

    def __init__(self, layout: TokenLayout, queries: Queries, q_WHd, position_W, me, scale: float, causal: bool):
        self.layout, self.queries, self.q_WHd, self.position_W, self.me = layout, queries, q_WHd, position_W, me
        self.scale, self.causal = scale, causal
        self.key_tiles = tiles(layout)
        meet = [pairs_of(layout, queries, tile, key, causal)[1] for tile in queries.tiles for key in self.key_tiles]
        self.meet_NN = np.logical_or.reduce(meet)

    def if_needed(self, other, rows: Callable[[], Array]) -> Array:
        """``rows()`` where device ``other`` is this one or has a visible key, else zeros."""
        needed = (other == self.me) | self._visible(other) if self.causal else True
        return or_zeros(needed, rows)

    def _visible(self, other):
        """Whether it is another device, any of whose keys is visible to any own query."""
        return jnp.asarray(self.meet_NN)[self.me, other]

    @jax.named_scope("attend_others")
    def add(
        self,
        parts: list[Partial],
        other,
        rows: Callable[[], tuple[Array, Array]],
        here_R: Bool[Array, " R"] | None = None,
    ) -> list[Partial]:
        """``parts`` with device ``other``'s keys added; ``rows()`` decodes them, called only where one is visible.

        Rows that are not ``here_R`` are seen by nobody.
        """
        other_R = jnp.asarray(self.layout.positions_NR)[other]
        if here_R is not None:
            other_R = jnp.where(here_R, other_R, PAD)

        def with_rows(parts: list[Partial]) -> list[Partial]:
            k_RKd, v_RKd = rows()
            return [
                functools.reduce(
                    lambda part, key_tile: self._pair(part, tile, key_tile, other, other_R, k_RKd, v_RKd),
                    self.key_tiles,
                    part,
                )
                for part, tile in zip(parts, self.queries.tiles, strict=True)
            ]

        return lax.cond(self._visible(other), with_rows, lambda parts: parts, parts)

    def _pair(self, part, tile, key_tile, other, other_R, k_RKd, v_RKd):
        (a, b), (s, e) = tile, key_tile
        counts, meet_NN = pairs_of(self.layout, self.queries, tile, key_tile, self.causal)

        def of_rows(mine, theirs):
            (q_THd, position_T), (k_SKd, v_SKd, position_S) = mine, theirs
            visible = position_S[None] <= position_T[:, None] if self.causal else position_S[None] < PAD
            if self.queries.exact_NS2.shape[1]:
                visible = visible & ~self._held(position_S)[None]
            visible = jnp.broadcast_to(visible, (len(position_T), len(position_S)))
            return partial_attention(q_THd, k_SKd, v_SKd, visible, self.scale)

        def attend(part):
            mine, theirs = (self.q_WHd[a:b], self.position_W[a:b]), (k_RKd[s:e], v_RKd[s:e], other_R[s:e])
            return merge(part, each_pair(*counts, other, meet_NN, of_rows, mine, theirs))

        if not self.causal or len(self.key_tiles) == len(self.queries.tiles) == 1:
            return attend(part)  # the question was asked outside already
        return lax.cond(jnp.asarray(meet_NN)[self.me, other], attend, lambda part: part, part)

    def _held(self, position_S):
        """Which of these positions this device holds exactly itself."""
        range_S2 = jnp.asarray(self.queries.exact_NS2)[self.me]
        inside_SP = (position_S[None] >= range_S2[:, :1]) & (position_S[None] < range_S2[:, 1:])
        return inside_SP.any(axis=0)

    def with_shared(self, parts: list[Partial], k_SKd, v_SKd) -> list[Partial]:
        """``parts`` of a causal model with the shared rows' keys added, which come before every own row."""
        if not k_SKd.shape[0]:
            return parts
        return [
            merge(part, partial_attention(self.q_WHd[a:b], k_SKd, v_SKd, None, self.scale))
            for part, (a, b) in zip(parts, self.queries.tiles, strict=True)
        ]


def join_parts(parts: list[Partial], H: int, d: int) -> Float[Array, "R H d"]:
    """The outputs of consecutive tiles as rows."""
    return jnp.concatenate([finish(part) for part in parts] or [nothing(0, H, d).out_THd])


def _last(positions):
    real = positions[positions < PAD]
    return real.max() if real.size else -1
