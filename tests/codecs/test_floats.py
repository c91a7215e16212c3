"""Floats: precision of the type, and no infinity where there was none."""

import jax
import jax.numpy as jnp
import pytest

from thinwire.codecs import CODECS, Float
from thinwire.errors import ThinwireError


@pytest.mark.parametrize(("name", "bits"), [("float32", 24), ("bfloat16", 8), ("float16", 11)])
def test_relative_error_is_half_a_last_place(name, bits, key):
    x_TD = jax.random.normal(key, (4, 33)) + 3
    codec = CODECS[name]()
    back_TD = codec.decode({}, codec.encode({}, x_TD), 4, 33)
    assert jnp.max(jnp.abs(back_TD - x_TD) / jnp.abs(x_TD)) <= 2.0**-bits


def test_float16_saturates():
    codec = CODECS["float16"]()
    x_TD = jnp.asarray([[1e5, -1e30, 65504.0]])
    assert codec.decode({}, codec.encode({}, x_TD), 1, 3).tolist() == [[65504.0, -65504.0, 65504.0]]


def test_unknown_type():
    with pytest.raises(ThinwireError, match="'float8'"):
        Float("float8")
