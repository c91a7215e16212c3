"""The search kernel, interpreted, against the search in JAX and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs.vq import search as search_in_jax
from thinwire.kernels.search import search

by_kernel = jax.jit(search)


@settings(max_examples=8, deadline=None)
@given(
    shape=st.sampled_from([(2, 3, 3), (1, 300, 20), (4, 16, 8), (3, 129, 130)]),
    tokens=st.sampled_from([1, 130]),
    seed=st.integers(0, 2**31),
)
def test_the_nearest_codeword_is_found(shape, tokens, seed):
    G, _, E = shape
    rng = np.random.default_rng(seed)
    codebook, x_TD = rng.normal(size=shape).astype(np.float32), rng.normal(size=(tokens, G * E)).astype(np.float32)
    codes_TG = np.asarray(by_kernel(jnp.asarray(codebook), jnp.asarray(x_TD)))
    apart_TGCE = x_TD.reshape(tokens, G, 1, E).astype(np.float64) - codebook[None]
    distance_TGC = (apart_TGCE**2).sum(-1)
    chosen_TG = np.take_along_axis(distance_TGC, codes_TG[:, :, None], axis=-1)[:, :, 0]
    # What the index takes of a score's bits: see the docstring of codecs.vq.search.
    assert (chosen_TG <= distance_TGC.min(-1) * (1 + shape[1] * 2.0**-22) + 1e-5).all()


def test_ties_go_to_the_lowest_index_across_blocks():
    codebook = jnp.tile(jnp.asarray([[5.0], [1.0], [-1.0]]), (100, 1))[None]  # three blocks of the same codewords
    assert by_kernel(codebook, jnp.asarray([[0.0], [1.0], [-1.0], [9.0]])).tolist() == [[1], [1], [2], [0]]


def test_the_last_codeword_of_a_block_that_is_not_full_can_be_found():
    codebook = jnp.arange(130.0)[None, :, None]
    assert by_kernel(codebook, jnp.asarray([[129.2], [128.9], [200.0]])).tolist() == [[129], [129], [129]]


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_codes_stay_in_range_for_rows_that_are_not_finite(bad):
    codes = by_kernel(jax.random.normal(jax.random.key(0), (2, 5, 2)), jnp.full((3, 4), bad))
    assert ((codes >= 0) & (codes < 5)).all()


def test_no_rows_have_no_codes():
    assert search(jnp.zeros((2, 5, 2)), jnp.zeros((0, 4))).shape == (0, 2)


def test_mapped_over_devices_it_is_the_same(key):
    codebook, x_NTD = jax.random.normal(key, (2, 9, 3)), jax.random.normal(jax.random.key(1), (3, 5, 6))
    mapped = jax.vmap(search, in_axes=(None, 0))(codebook, x_NTD)
    assert (mapped == jax.vmap(search_in_jax, in_axes=(None, 0))(codebook, x_NTD)).all()
