"""The search for nearest codewords as a kernel: distances and their running maximum, block by block of codewords.

A program takes one group and a tile of rows, and keeps one integer a row: no score leaves the chip. What it computes is
what ``codecs/vq.py`` documents of ``search``, the bits of a score that make room for the index included.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int32

from thinwire.kernels.launch import Platform, on_platform, pad, pallas_call, power_of_two
from thinwire.kernels.ordered import ordered

ROWS, CODEWORDS, VALUES = 128, 128, 128  # of a tile


def _body(x_ref, codebook_ref, half_norm_ref, codes_ref, *, last: int, low: int, values: int):
    """``x_ref`` (E, t), ``codebook_ref`` (C, E), ``half_norm_ref`` (C, 1) of one group -> ``codes_ref`` (1, t)."""
    E, t = x_ref.shape
    block = min(CODEWORDS, codebook_ref.shape[0])
    pieces = E // values

    def own(i, half_1t):
        x_et = x_ref[pl.ds(i * values, values), :]
        return half_1t + jnp.sum(x_et * x_et, axis=0, keepdims=True) / 2

    half_own_1t = lax.fori_loop(0, pieces, own, jnp.zeros((1, t), jnp.float32))

    def of_block(j, best_1t):
        at = pl.ds(j * block, block)

        def add(i, dots_ct):
            along = pl.ds(i * values, values)
            return dots_ct + lax.dot_general(
                codebook_ref[at, along],
                x_ref[along, :],
                (((1,), (0,)), ((), ())),
                precision=lax.Precision.HIGHEST,
                preferred_element_type=jnp.float32,
            )

        dots_ct = lax.fori_loop(0, pieces, add, jnp.zeros((block, t), jnp.float32))
        # The lowest index wins a tie. Codewords that only fill up the last block have an infinite norm.
        index_ct = jnp.maximum(last - j * block - lax.broadcasted_iota(jnp.int32, (block, t), 0), 0)
        score_ct = dots_ct - half_norm_ref[at, :] - half_own_1t
        return jnp.maximum(best_1t, jnp.max(ordered(score_ct, index_ct, low), axis=0, keepdims=True))

    lowest = jnp.full((1, t), jnp.iinfo(jnp.int32).min, jnp.int32)
    best_1t = lax.fori_loop(0, codebook_ref.shape[0] // block, of_block, lowest)
    codes_ref[...] = last - (best_1t & low)


def _launch(platform: Platform, x_GEt: Array, codebook_GCE: Array, half_norm_GC1: Array, *, last: int, values: int):
    G, E, T = x_GEt.shape
    C = codebook_GCE.shape[1]
    low = (1 << last.bit_length()) - 1
    return pallas_call(
        platform,
        functools.partial(_body, last=last, low=low, values=values),
        grid=(G, T // ROWS),
        in_specs=[
            pl.BlockSpec((None, E, ROWS), lambda g, i: (g, 0, i)),
            pl.BlockSpec((None, C, E), lambda g, i: (g, 0, 0)),
            pl.BlockSpec((None, C, 1), lambda g, i: (g, 0, 0)),
        ],
        out_specs=pl.BlockSpec((None, 1, ROWS), lambda g, i: (g, 0, i)),
        out_shape=jax.ShapeDtypeStruct((G, 1, T), jnp.int32),
    )(x_GEt, codebook_GCE, half_norm_GC1)


def search(codebook: Float[Array, "G C E"], x_TD: Float[Array, "T D"]) -> Int32[Array, "T G"]:
    """The index of the codeword nearest to each group of each row, as ``thinwire.codecs.vq.search``.

    A group's codebook must fit into what a program has beside it: 1024 codewords of 1536 values are 6 MiB.
    """
    G, C, E = codebook.shape
    T = x_TD.shape[0]
    codebook, x_TD = codebook.astype(jnp.float32), x_TD.astype(jnp.float32)
    if T == 0:
        return jnp.zeros((0, G), jnp.int32)
    values = min(VALUES, power_of_two(E))
    half_norm_GC1 = jnp.sum(codebook * codebook, axis=-1, keepdims=True) / 2
    block = min(CODEWORDS, power_of_two(C))
    x_GEt = pad(pad(x_TD.reshape(T, G, E).transpose(1, 2, 0), 1, values), 2, ROWS)
    codebook_GCE = pad(pad(codebook, 1, block), 2, values)
    kernel = functools.partial(_launch, last=C - 1, values=values)
    codes_G1T = on_platform(kernel, x_GEt, codebook_GCE, pad(half_norm_GC1, 1, block, jnp.inf))
    return codes_G1T[:, 0, :T].T
