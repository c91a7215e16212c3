"""Block-wise integers: the error is at most half of the step that is sent, which is hardly more than it must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import BlockInt

encode = jax.jit(lambda codec, x_TD: codec.encode({}, x_TD), static_argnums=0)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([8, 4, 2]),
    dim_block=st.sampled_from([(10, 4), (7, 64)]),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 40.0, 2e4]),
    shift=st.sampled_from([0.0, 1.0, -300.3]),
    seed=st.integers(0, 2**31),
)
def test_error_is_at_most_half_a_step(bits, dim_block, scale, shift, seed):
    dim, block = dim_block
    x = np.random.default_rng(seed).uniform(-1, 1, (3, dim)) * scale + shift
    codec = BlockInt(bits, block)
    payload = encode(codec, jnp.asarray(x, jnp.float32))
    back = np.asarray(codec.decode({}, payload, 3, dim), np.float64)
    step = np.repeat(np.asarray(payload["step"], np.float64), block, axis=1)[:, :dim]
    float32_rounding = 1e-6 * np.abs(x).max()
    assert (np.abs(back - x) <= step / 2 + float32_rounding).all()
    # The step is what the block's range needs, plus at most one float16 place of the zero and of itself.
    for b in range(-(-dim // block)):
        part = x[:, b * block : (b + 1) * block]
        place = np.abs(part).max(axis=1) * 2.0**-10 + 2.0**-24
        needed = (np.ptp(part, axis=1) + place) / (2**bits - 1)
        assert (np.asarray(payload["step"][:, b], np.float64) <= needed * (1 + 2.0**-10) + 2.0**-23).all()


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.77, 1e-9, 65504.0, -65504.0])
def test_constant_blocks_come_back(bits, value):
    codec = BlockInt(bits, 4)
    back = codec.decode({}, encode(codec, jnp.full((2, 6), value)), 2, 6)
    assert jnp.max(jnp.abs(back - value)) <= abs(value) * 2.0**-10 / (2**bits - 1) + 2.0**-24


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_huge_values_and_outliers_stay_finite(bits):
    codec = BlockInt(bits, 4)
    x_TD = jnp.asarray([[1e5, -1e5, 0, 1, 1e30, 2, 3, 4], [0, 0, 0, 6e4, 1, 1, 1, -1e38]], jnp.float32)
    payload = encode(codec, x_TD)
    back_TD = codec.decode({}, payload, 2, 8)
    assert all(jnp.isfinite(a).all() for a in payload.values())
    assert jnp.isfinite(back_TD).all()
    half_TD = jnp.repeat(payload["step"].astype(jnp.float32), 4, axis=1) / 2
    assert (jnp.abs(back_TD - jnp.clip(x_TD, -65504, 65504)) <= half_TD * 1.0001).all()


def test_an_outlier_harms_only_its_own_block():
    x = np.random.default_rng(0).normal(size=(1, 128)).astype(np.float32)
    x[0, 3] = 1000.0
    codec = BlockInt(8, 64)
    back = np.asarray(codec.decode({}, encode(codec, jnp.asarray(x)), 1, 128))
    assert np.abs(back - x)[:, 64:].max() < 0.02 < np.abs(back - x)[:, :64].max()


def test_sizes():
    assert BlockInt(4).payload_bytes(3, 65) == 98 + 3 * 2 * 4
    assert BlockInt(8).bits_per_token(64) == 64 * 8 + 32
