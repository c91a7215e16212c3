import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.wire import message

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "bfloat16", "float32"]
leaves = st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=3))


def random_leaf(dtype, shape, seed):
    """Any bit pattern at all, NaNs and infinities included."""
    dtype = jnp.dtype(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return jnp.asarray(raw.view(dtype).reshape(shape))


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()


@settings(max_examples=12, deadline=None)
@given(st.lists(leaves, min_size=1, max_size=4), st.integers(0, 1000))
def test_parts_come_out_as_they_went_in(spec, seed):
    payload = {f"leaf{i}": random_leaf(dtype, shape, seed + i) for i, (dtype, shape) in enumerate(spec)}
    packet = message.join(payload)
    assert message.size_bytes(packet) == sum(leaf.nbytes for leaf in payload.values())  # nothing is padded
    back = message.part(packet, payload)
    assert sorted(back) == sorted(payload)
    assert all(same_bits(back[name], payload[name]) for name in payload)


def test_structs_are_enough_to_part_and_order_of_names_does_not_matter():
    payload = {"zero": jnp.ones((3, 1), jnp.float16), "codes": jnp.arange(5, dtype=jnp.uint8)}
    packet = message.join(dict(reversed(payload.items())))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), payload)
    assert all(same_bits(message.part(packet, like)[name], payload[name]) for name in payload)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_travel_as_integers(dtype):
    """XLA may widen short floats inside collectives, which would double the bytes."""
    assert message.join({"values": jnp.ones((2, 3), jnp.dtype(dtype))}).dtype == jnp.uint16


def test_no_rows_are_no_bytes():
    payload = {"codes": jnp.zeros((0,), jnp.uint8), "step": jnp.zeros((0, 2), jnp.float16)}
    back = message.part(message.join(payload), payload)
    assert all(same_bits(back[name], payload[name]) for name in payload)
