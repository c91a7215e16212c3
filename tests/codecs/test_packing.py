"""Bit packing: exact size, exact round trip, the documented order, under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs.packing import pack_bits, packed_bytes, unpack_bits


def reference(codes, bits):
    """The documented order, one bit at a time."""
    stream = [int(code) >> b & 1 for code in codes for b in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return [sum(bit << b for b, bit in enumerate(stream[i : i + 8])) for i in range(0, len(stream), 8)]


@settings(max_examples=16, deadline=None)
@given(st.integers(1, 16), st.sampled_from([1, 33]), st.integers(0, 2**31))
def test_round_trip_size_and_order(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count)
    packed = pack_bits(jnp.asarray(codes, jnp.uint32), bits)
    assert packed.shape == (-(-count * bits // 8),) == (packed_bytes(count, bits),)
    assert packed.dtype == jnp.uint8
    assert packed.tolist() == reference(codes, bits)
    assert unpack_bits(packed, bits, count).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", [3, 10])
def test_vmap_of_jit_equals_a_loop(bits):
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 1 << bits, (4, 13)), jnp.int32)
    packed = jax.vmap(jax.jit(lambda c: pack_bits(c, bits)))(codes)
    assert packed.tolist() == [pack_bits(c, bits).tolist() for c in codes]
    assert (jax.vmap(lambda p: unpack_bits(p, bits, 13))(packed) == codes).all()


def test_high_bits_do_not_leak_into_the_neighbour():
    packed = pack_bits(jnp.asarray([0x7F, 0], jnp.int32), 4)
    assert unpack_bits(packed, 4, 2).tolist() == [15, 0]


def test_no_codes_are_no_bytes():
    assert pack_bits(jnp.zeros((0,), jnp.int32), 10).shape == (0,)
    assert unpack_bits(jnp.zeros((0,), jnp.uint8), 10, 0).shape == (0,)


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match="1 to 16"):
        pack_bits(jnp.zeros((3,), jnp.int32), bits)


def test_wrong_number_of_bytes():
    with pytest.raises(ValueError, match="fill 5 bytes"):
        unpack_bits(jnp.zeros((4,), jnp.uint8), 10, 4)
