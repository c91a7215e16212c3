"""The index of the largest score by one maximum of integers, which carry both."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def ordered(score: Array, index: Array, low: int) -> Array:
    """Scores as integers that are ordered like them, the lowest bits (``low``) replaced by an index.

    A float's bits, those of negative ones turned round, are ordered like the floats.
    """
    bits = lax.bitcast_convert_type(score, jnp.int32)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) & ~low) | index
