"""Attention to coded rows by tables of scores as a kernel, for small codebooks; see ``attention/code_table.py``.

A program computes the scores of its queries with all codewords once, reads a row's score off by its codes, and adds the
weights up by value code; both by products with ones and zeros. Nothing is ever decoded.
"""

import functools

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int32

from thinwire.kernels import tiles
from thinwire.kernels.launch import Platform, on_platform, pallas_call
from thinwire.kernels.tiles import KEYS, product


def _body(
    q_ref, reach_ref, k_codes_ref, v_codes_ref, k_book_ref, v_book_ref, position_ref, out_ref, top_ref, sum_ref,
    *, scale: float,
):  # fmt: skip
    q_td, reach_t1 = q_ref[...], reach_ref[...]
    n, C, _ = k_book_ref.shape
    t = q_td.shape[0]
    table_ntC = [product(q_td, k_book_ref[i], (1, 1)) * scale for i in range(n)]

    def names(codes_ref, i, j):
        return tiles.named(codes_ref[pl.ds(j * KEYS, KEYS), i : i + 1], C)

    def add(j, carried):
        by_code_ntC, running = carried
        scores = [product(table_ntC[i], names(k_codes_ref, i, j), (1, 1), exact=True) for i in range(n)]
        score_ts = functools.reduce(jnp.add, scores)
        running, factor_t1, weight_ts = tiles.step(running, score_ts, reach_t1, position_ref[j])
        added_ntC = [product(weight_ts, names(v_codes_ref, i, j), (1, 0), exact=True) for i in range(n)]
        return tuple(a * factor_t1 + b for a, b in zip(by_code_ntC, added_ntC, strict=True)), running

    start = tuple(jnp.zeros((t, C), jnp.float32) for _ in range(n)), tiles.nothing_yet(t)
    by_code_ntC, (top_t1, sum_t1) = lax.fori_loop(0, position_ref.shape[0], add, start)
    outs = [product(by_code_ntC[i], v_book_ref[i], (1, 0)) for i in range(n)]
    out_ref[...] = functools.reduce(jnp.add, outs)
    top_ref[...], sum_ref[...] = top_t1, sum_t1


def _launch(platform: Platform, *arrays: Array, scale: float):
    q_HTd, _, k_codes, v_codes, k_book, v_book, position = arrays
    share = q_HTd.shape[0] // k_codes.shape[0]
    of_head = lambda x: tiles.by_key_head(x, share)
    return pallas_call(
        platform,
        functools.partial(_body, scale=scale),
        in_specs=[
            tiles.by_query_head(q_HTd.shape[2]), tiles.by_tile(), of_head(k_codes), of_head(v_codes),
            of_head(k_book), of_head(v_book), tiles.everything(position),
        ],
        **tiles.outputs(q_HTd),
    )(*arrays)  # fmt: skip


def table_attention(
    q_THd: Float[Array, "T H d"],
    reach_T: Int32[Array, " T"],
    key_codes_KnS: Int32[Array, "K n S"],
    value_codes_KnS: Int32[Array, "K n S"],
    key_book_KnCe: Float[Array, "K n C e"],
    value_book_KnCe: Float[Array, "K n C e"],
    position_S: Int32[Array, " S"],
    scale: float,
) -> tuple[Float[Array, "T H d"], Float[Array, "T H"], Float[Array, "T H"]]:
    """Attention of T queries over S coded rows, in float32; arguments and results as of ``mixed.mixed_attention``.

    It has no gradient. A program keeps 2·n arrays of a tile of queries by C codewords.
    """
    T, _, d = q_THd.shape
    book = lambda book_KnCe: tiles.spread(book_KnCe.astype(jnp.float32))
    found = on_platform(
        functools.partial(_launch, scale=scale),
        *tiles.cut_queries(q_THd.astype(jnp.float32), reach_T),
        tiles.cut_codes(key_codes_KnS),
        tiles.cut_codes(value_codes_KnS),
        book(key_book_KnCe),
        book(value_book_KnCe),
        tiles.cut_positions(position_S),
    )
    return tiles.uncut(found, T, d)
