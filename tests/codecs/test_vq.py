"""Grouped vector quantisation against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import GroupedVQ
from thinwire.codecs.packing import unpack_bits
from thinwire.codecs.vq import _search_tiled, lookup, search, search_space
from thinwire.errors import ThinwireError

encode = jax.jit(lambda codec, params, x_TD: codec.encode(params, x_TD), static_argnums=0)


def brute_force(codebook_GCE, x_TD):
    """Squared distances in float64, (T, G, C)."""
    G, _, E = codebook_GCE.shape
    x_TGE = np.asarray(x_TD, np.float64).reshape(-1, G, E)
    return ((x_TGE[:, :, None] - np.asarray(codebook_GCE, np.float64)[None]) ** 2).sum(-1)


@settings(max_examples=10, deadline=None)
@given(
    shape=st.sampled_from([(2, 3, 3), (6, 1000, 1), (4, 16, 4)]),
    tokens=st.sampled_from([1, 130]),
    seed=st.integers(0, 2**31),
)
def test_nearest_codeword_and_exact_size(shape, tokens, seed):
    G, C, E = shape
    rng = np.random.default_rng(seed)
    codebook = jnp.asarray(rng.normal(size=shape), jnp.float32)
    x_TD = jnp.asarray(rng.normal(size=(tokens, G * E)), jnp.float32)
    codec = GroupedVQ(G, C)
    payload = encode(codec, {"codebook": codebook}, x_TD)
    bits = int(np.ceil(np.log2(C)))
    assert payload["codes"].shape == (-(-tokens * G * bits // 8),)
    codes_TG = np.asarray(unpack_bits(payload["codes"], bits, tokens * G)).reshape(tokens, G)
    assert (codes_TG < C).all()
    distance_TGC = brute_force(codebook, x_TD)
    chosen_TG = np.take_along_axis(distance_TGC, codes_TG[:, :, None], axis=-1)[:, :, 0]
    assert (chosen_TG <= distance_TGC.min(-1) + 1e-5).all()
    back_TD = codec.decode({"codebook": codebook}, payload, tokens, G * E)
    for g in range(G):
        assert (back_TD[:, g * E : (g + 1) * E] == codebook[g][codes_TG[:, g]]).all()


def test_what_was_decoded_encodes_to_itself(key):
    codec = GroupedVQ(4, 37)
    params = {"codebook": codec.init_params(key, 1, 24)["codebook"][0]}
    payload = codec.encode(params, jax.random.normal(jax.random.key(2), (19, 24)))
    again = codec.encode(params, codec.decode(params, payload, 19, 24))
    assert (again["codes"] == payload["codes"]).all()


def test_ties_go_to_the_lowest_index():
    codebook = jnp.asarray([[[5.0], [1.0], [-1.0], [1.0], [5.0]]])
    assert search(codebook, jnp.asarray([[0.0], [1.0], [9.0]])).tolist() == [[1], [1], [0]]


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_codes_stay_in_range_for_rows_that_are_not_finite(bad):
    codes = search(jax.random.normal(jax.random.key(0), (2, 5, 2)), jnp.full((3, 4), bad))
    assert ((codes >= 0) & (codes < 5)).all()


@pytest.mark.parametrize("tile", [(1, 1), (2, 7), (4, 64), (4, 1000)])
def test_every_tiling_finds_the_same_codes(tile, key):
    codebook = jax.random.normal(key, (4, 9, 3))
    x_TD = jax.random.normal(jax.random.key(3), (50, 12))
    expected = brute_force(codebook, x_TD).argmin(-1)
    assert (np.asarray(_search_tiled(codebook, x_TD, tile)) == expected).all()


def test_no_whole_score_array_is_made(key):
    G, C, T = 16, 256, 512
    codebook = jax.random.normal(key, (G, C, 2))
    compiled = jax.jit(search).lower(codebook, jnp.zeros((T, 2 * G))).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * T * G * C / 4


def test_largest_codebook_fits_in_16_bits():
    grid = jnp.arange(256, dtype=jnp.float32)
    codebook = jnp.stack(jnp.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(1, 65536, 2)
    x_TD = jnp.asarray([[255.2, 254.8], [0.1, -3.0], [156.4, 0.6]])
    payload = encode(GroupedVQ(1, 65536), {"codebook": codebook}, x_TD)
    assert payload["codes"].shape == (6,)
    back_TD = GroupedVQ(1, 65536).decode({"codebook": codebook}, payload, 3, 2)
    assert back_TD.tolist() == [[255.0, 255.0], [0.0, 0.0], [156.0, 1.0]]


def test_lookup_and_widths(key):
    codebook = jax.random.normal(key, (2, 3, 4))
    rows = lookup(codebook, jnp.asarray([[2, 0]]))
    assert (rows[0] == jnp.concatenate([codebook[0, 2], codebook[1, 0]])).all()
    with pytest.raises(ValueError, match="does not fit rows of 9"):
        search(codebook, jnp.zeros((1, 9)))
    assert GroupedVQ(2, 3).init_params(key, 5, 8)["codebook"].shape == (5, 2, 3, 4)


def test_searching_in_fewer_dimensions(key):
    """Exact where the codewords span no more; else an error between the exact one and twice as much."""
    x_TD = jax.random.normal(jax.random.key(1), (200, 24))
    flat = jax.random.normal(key, (2, 50, 4)) @ jax.random.normal(jax.random.key(2), (2, 4, 12))
    exact = search(flat, x_TD)
    codec = GroupedVQ(2, 50, search=4)
    payload = encode(codec, {"codebook": flat, **search_space(flat, 4)}, x_TD)
    codes_TG = unpack_bits(payload["codes"], codec.bits, 400).reshape(200, 2)
    assert (codes_TG == exact).mean() > 0.995  # but for ties that rounding decides
    assert codec.payload_bytes(200, 24) == GroupedVQ(2, 50).payload_bytes(200, 24)

    params = {name: array[0] for name, array in GroupedVQ(2, 50, search=8).init_params(key, 1, 24).items()}
    error = lambda codec: float(((codec.decode(params, codec.encode(params, x_TD), 200, 24) - x_TD) ** 2).sum())
    assert error(GroupedVQ(2, 50)) < error(GroupedVQ(2, 50, search=8)) < 2 * error(GroupedVQ(2, 50))
    assert GroupedVQ(2, 50, search=4).encode_flops(24) < GroupedVQ(2, 50).encode_flops(24)


def test_wide_groups_are_searched_in_fewer_dimensions_by_default(key):
    params = {name: array[0] for name, array in GroupedVQ(1, 200).init_params(key, 1, 1024).items()}
    assert params["projected"].shape == (1, 200, 128)
    assert "projected" not in GroupedVQ(2, 200).init_params(key, 1, 1024)
    x_TD = params["codebook"][0, 3:50] + 0.01
    payload = GroupedVQ(1, 200).encode(params, x_TD)
    assert (unpack_bits(payload["codes"], 8, 47) == jnp.arange(3, 50)).all()
    exactly = GroupedVQ(1, 200).encode({"codebook": params["codebook"]}, x_TD)  # a set without a space
    assert (exactly["codes"] == payload["codes"]).all()


@pytest.mark.parametrize(("codec", "said"), [((2, 50, 50), "fewer than 50"), ((2, 50, -2), "search=-2")])
def test_search_spaces_that_cannot_be(codec, said):
    with pytest.raises(ThinwireError, match=said):
        GroupedVQ(*codec)
    with pytest.raises(ThinwireError, match="more than the 12 values"):
        GroupedVQ(2, 50, search=13).check(24)
