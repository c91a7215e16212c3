"""Calls from a compiled program into Python: every one is made, in loops too, and sees what the program holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.wire.callback import host_call

SCALAR = jax.ShapeDtypeStruct((), np.int32)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "bfloat16"])
def test_it_is_given_the_arrays_and_gives_one_back(dtype):
    def swapped(x, y):
        assert (type(x), x.dtype) == (np.ndarray, dtype)
        return np.stack([y, x])

    x, y = jnp.arange(6).reshape(2, 3).astype(dtype), jnp.ones((2, 3), dtype)
    seen = jax.jit(lambda x, y: host_call(swapped, jax.ShapeDtypeStruct((2, 2, 3), dtype), x, y))(x, y)
    assert seen.dtype == dtype
    np.testing.assert_array_equal(np.asarray(seen), np.stack([y, x]))


def test_it_is_made_though_nobody_asks_for_its_result():
    seen = []

    def note(x):
        seen.append(int(x))
        return np.int32(0)

    def program(x):
        host_call(note, SCALAR, x)
        return jax.lax.scan(lambda n, _: (n + 1, host_call(note, SCALAR, n) * 0), x + 1, None, length=3)[0]

    jax.block_until_ready(jax.jit(program)(jnp.int32(5)))
    assert sorted(seen) == [5, 6, 7, 8]


def test_its_error_is_told():
    def fails(x):
        raise ConnectionError(f"no way for {int(x)}")

    with pytest.raises(Exception, match="no way for 7"):
        jax.block_until_ready(jax.jit(lambda x: host_call(fails, SCALAR, x))(jnp.int32(7)))


def test_a_result_of_another_shape_is_refused():
    with pytest.raises(Exception, match="shape"):
        jax.block_until_ready(jax.jit(lambda x: host_call(lambda x: np.zeros(2, np.int32), SCALAR, x))(jnp.int32(7)))
