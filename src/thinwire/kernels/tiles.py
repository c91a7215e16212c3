"""What both attention kernels have in common: how arrays are cut, who sees whom, softmax as it goes along.

Shapes in the kernels: t rows of queries and s of keys make a tile, d values a head (filled up to a power of two), n
pieces, C codewords (filled up likewise). A program of the grid takes one query head and one tile of queries and goes
through all keys in a loop, so nothing is handed from one program to the next, which GPUs do not promise.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int32

from thinwire.kernels.launch import pad, power_of_two

QUERIES, KEYS = 64, 64  # rows of a tile
NEVER = -1e30  # a score no real one reaches, as in ``attention/partial.py``
HIDDEN = 2**31 - 1  # a position that no query reaches


class Running(NamedTuple):
    """The largest score so far and the sum of exponentials."""

    top_t1: Array
    sum_t1: Array


def nothing_yet(t: int) -> Running:
    """Before the first key."""
    return Running(jnp.full((t, 1), NEVER, jnp.float32), jnp.zeros((t, 1), jnp.float32))


def step(running: Running, score_ts: Array, reach_t1: Array, position_1s: Array) -> tuple[Running, Array, Array]:
    """A tile of keys more: what is known now, the factor for what was added up before, the weights of these keys."""
    visible_ts = position_1s <= reach_t1
    score_ts = jnp.where(visible_ts, score_ts, NEVER)
    top_t1 = jnp.maximum(running.top_t1, jnp.max(score_ts, axis=1, keepdims=True))
    weight_ts = jnp.where(visible_ts, jnp.exp(score_ts - top_t1), 0.0)
    factor_t1 = jnp.exp(running.top_t1 - top_t1)
    sum_t1 = running.sum_t1 * factor_t1 + jnp.sum(weight_ts, axis=1, keepdims=True)
    return Running(top_t1, sum_t1), factor_t1, weight_ts


def product(a: Array, b: Array, contract: tuple[int, int], exact: bool = False) -> Array:
    """A matrix product along one axis of each, summed in float32; ``exact`` where one side is ones and zeros."""
    precision = lax.Precision.HIGHEST if exact else None
    dims = (((contract[0],), (contract[1],)), ((), ()))
    return lax.dot_general(a, b, dims, precision=precision, preferred_element_type=jnp.float32)


def named(codes_s1: Array, C: int) -> Array:
    """Rows of ones and zeros (s, C): a one where the codeword is."""
    return (codes_s1 == lax.broadcasted_iota(jnp.int32, (codes_s1.shape[0], C), 1)).astype(jnp.float32)


def cut_queries(q_THd: Array, reach_T: Array) -> tuple[Array, Array]:
    """Queries by head (H, T', d') and what they reach (T', 1), filled up."""
    q_HTd = pad(pad(q_THd.swapaxes(0, 1), 1, QUERIES), 2, power_of_two(q_THd.shape[2]))
    return q_HTd, pad(reach_T[:, None], 0, QUERIES, -1)


def cut_keys(x_SKd: Array) -> Array:
    """Keys or values by head (K, S', d'), filled up."""
    return pad(pad(x_SKd.swapaxes(0, 1), 1, KEYS), 2, power_of_two(x_SKd.shape[2]))


def cut_positions(position_S: Int32[Array, " S"]) -> Array:
    """Positions tile by tile (tiles, 1, s), nobody's where there is no row."""
    return pad(position_S, 0, KEYS, HIDDEN).reshape(-1, 1, KEYS)


def cut_codes(codes_KnS: Int32[Array, "K n S"]) -> Array:
    """Codes row by row (K, S', n)."""
    return pad(codes_KnS.swapaxes(1, 2), 1, KEYS)


def spread(book_KnCe: Float[Array, "K n C e"]) -> Float[Array, "K n c d"]:
    """Codewords as rows of a whole head, zero outside their piece, and of a number that is a power of two."""
    n, _, e = book_KnCe.shape[1:]
    place_ned = jnp.eye(n * e, dtype=book_KnCe.dtype).reshape(n, e, n * e)
    spread_KnCd = (book_KnCe[..., None] * place_ned[None, :, None]).sum(axis=3)
    return pad(pad(spread_KnCd, 2, power_of_two(book_KnCe.shape[2])), 3, power_of_two(n * e))


def by_query_head(width: int) -> pl.BlockSpec:
    """A tile of queries of a head, of an array (H, T', width)."""
    return pl.BlockSpec((None, QUERIES, width), lambda h, i: (h, i, 0))


def by_key_head(x: Array, share: int) -> pl.BlockSpec:
    """All of a key head's part of ``x`` (K, ...), which ``share`` query heads share."""
    return pl.BlockSpec((None, *x.shape[1:]), lambda h, i: (lax.div(h, jnp.int32(share)), *(0,) * (x.ndim - 1)))


def by_tile() -> pl.BlockSpec:
    """What a tile of queries reaches, of an array (T', 1)."""
    return pl.BlockSpec((QUERIES, 1), lambda h, i: (i, 0))


def everything(x: Array) -> pl.BlockSpec:
    """All of ``x``."""
    return pl.BlockSpec(x.shape, lambda h, i: (0,) * x.ndim)


def outputs(q_HTd: Array) -> dict[str, Any]:
    """The grid, and where a program's outputs, largest scores and sums go."""
    H, T, d = q_HTd.shape
    widths = (d, 1, 1)
    shapes = [jax.ShapeDtypeStruct((H, T, width), jnp.float32) for width in widths]
    return {"grid": (H, T // QUERIES), "out_shape": shapes, "out_specs": [by_query_head(width) for width in widths]}


def uncut(found: tuple[Array, Array, Array], T: int, d: int) -> tuple[Array, Array, Array]:
    """Outputs (T, H, d), largest scores (T, H) and sums (T, H)."""
    out_HTd, top_HT1, sum_HT1 = found
    return out_HTd[:, :T, :d].swapaxes(0, 1), top_HT1[:, :T, 0].T, sum_HT1[:, :T, 0].T
