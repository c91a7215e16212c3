"""Attention to exact rows and to coded ones as a kernel: codes are decoded on the chip, scores never leave it.

A coded row is decoded by gathering from the codebook, or by a product with rows of ones and zeros, which is exact: TPUs
do not gather, and pay 4·C·d operations a row and tile of queries for keys and values together.
"""

import functools
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int32

from thinwire.kernels import tiles
from thinwire.kernels.launch import Platform, on_platform, pallas_call
from thinwire.kernels.tiles import KEYS, product

Decoding = Literal["gather", "multiply"]


def _gathered(codes_ref, book_ref, j, e: int):
    n, _, d = book_ref.shape
    row_sd, value_sd = (lax.broadcasted_iota(jnp.int32, (KEYS, d), axis) for axis in (0, 1))
    piece_sd = jnp.minimum(lax.div(value_sd, jnp.int32(e)), n - 1)
    return book_ref[piece_sd, codes_ref[j * KEYS + row_sd, piece_sd], value_sd]


def _multiplied(codes_ref, book_ref, j, e: int):
    del e
    n, C, _ = book_ref.shape
    code_s1 = lambda i: codes_ref[pl.ds(j * KEYS, KEYS), i : i + 1]
    pieces = [
        product(tiles.named(code_s1(i), C), book_ref[i].astype(jnp.float32), (1, 0), exact=True) for i in range(n)
    ]
    return functools.reduce(jnp.add, pieces).astype(book_ref.dtype)


DECODINGS = {"gather": _gathered, "multiply": _multiplied}


def _body(
    q_ref, reach_ref, k_ref, v_ref, own_ref, k_codes_ref, v_codes_ref, k_book_ref, v_book_ref, theirs_ref,
    out_ref, top_ref, sum_ref, *, scale: float, e: int, decoding: Decoding,
):  # fmt: skip
    q_td, reach_t1 = q_ref[...], reach_ref[...]

    def add(carried, k_sd, v_sd, position_1s):
        out_td, running = carried
        score_ts = product(q_td, k_sd, (1, 1)) * scale
        running, factor_t1, weight_ts = tiles.step(running, score_ts, reach_t1, position_1s)
        return out_td * factor_t1 + product(weight_ts.astype(v_sd.dtype), v_sd, (1, 0)), running

    def exact(j, carried):
        at = pl.ds(j * KEYS, KEYS)
        return add(carried, k_ref[at, :], v_ref[at, :], own_ref[j])

    def decoded(j, carried):
        decode = DECODINGS[decoding]
        k_sd, v_sd = decode(k_codes_ref, k_book_ref, j, e), decode(v_codes_ref, v_book_ref, j, e)
        return add(carried, k_sd, v_sd, theirs_ref[j])

    carried = jnp.zeros(q_td.shape, jnp.float32), tiles.nothing_yet(q_td.shape[0])
    carried = lax.fori_loop(0, own_ref.shape[0], exact, carried)
    out_ref[...], running = lax.fori_loop(0, theirs_ref.shape[0], decoded, carried)
    top_ref[...], sum_ref[...] = running


def _launch(platform: Platform, *arrays: Array, scale: float, e: int, decoding: Decoding | None):
    q_HTd, _, k, v, own, k_codes, v_codes, k_book, v_book, theirs = arrays
    share = q_HTd.shape[0] // k.shape[0]
    of_head = lambda x: tiles.by_key_head(x, share)
    decoding = decoding or ("multiply" if platform == "tpu" else "gather")
    return pallas_call(
        platform,
        functools.partial(_body, scale=scale, e=e, decoding=decoding),
        in_specs=[
            tiles.by_query_head(q_HTd.shape[2]), tiles.by_tile(), of_head(k), of_head(v), tiles.everything(own),
            of_head(k_codes), of_head(v_codes), of_head(k_book), of_head(v_book), tiles.everything(theirs),
        ],
        **tiles.outputs(q_HTd),
    )(*arrays)  # fmt: skip


def mixed_attention(
    q_THd: Float[Array, "T H d"],
    reach_T: Int32[Array, " T"],
    k_SKd: Float[Array, "S K d"],
    v_SKd: Float[Array, "S K d"],
    position_S: Int32[Array, " S"],
    key_codes_KnR: Int32[Array, "K n R"],
    value_codes_KnR: Int32[Array, "K n R"],
    key_book_KnCe: Float[Array, "K n C e"],
    value_book_KnCe: Float[Array, "K n C e"],
    position_R: Int32[Array, " R"],
    scale: float,
    decoding: Decoding | None = None,
) -> tuple[Float[Array, "T H d"], Float[Array, "T H"], Float[Array, "T H"]]:
    """Attention of T queries over S exact rows and R coded ones; either may be none. It has no gradient.

    Args:
        reach_T: the last position that a query sees; negative: none.
        position_S, position_R: of the keys. Keys are as they are multiplied: rotated by it already, if at all.
        key_codes_KnR, value_codes_KnR, key_book_KnCe, value_book_KnCe: as in ``thinwire.attention.coded.Coded``.
        scale: of the scores.
        decoding: how codes are decoded; None: as the platform does it best.

    Returns:
        The unnormalised output, the largest score and the sum of exponentials, as in a ``Partial``.
    """
    T, _, d = q_THd.shape
    book = lambda book_KnCe: tiles.spread(book_KnCe.astype(q_THd.dtype))
    found = on_platform(
        functools.partial(_launch, scale=scale, e=key_book_KnCe.shape[3], decoding=decoding),
        *tiles.cut_queries(q_THd, reach_T),
        tiles.cut_keys(k_SKd),
        tiles.cut_keys(v_SKd),
        tiles.cut_positions(position_S),
        tiles.cut_codes(key_codes_KnR),
        tiles.cut_codes(value_codes_KnR),
        book(key_book_KnCe),
        book(value_book_KnCe),
        tiles.cut_positions(position_R),
    )
    return tiles.uncut(found, T, d)
