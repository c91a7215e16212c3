"""Uniform scalar quantisation: equal steps around zero, the same number of levels on both sides."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Integer


def to_codes(x: Float[Array, "T r"], step_r: Float[Array, "r"], levels: int) -> Int32[Array, "T r"]:
    """The nearest of ``levels`` levels that lie ``step`` apart and are centred on zero: codes 0 to levels − 1.

    An odd number has a level at zero, an even one half a step on either side of it. A step of 0 codes nothing.
    """
    inverse_r = jnp.where(step_r > 0, 1 / jnp.where(step_r > 0, step_r, 1.0), 0.0)
    codes = jnp.round(x * inverse_r[None] + (levels - 1) / 2)
    return jnp.clip(codes, 0, levels - 1).astype(jnp.int32)


def from_codes(codes: Integer[Array, "T r"], step_r: Float[Array, "r"], levels: int) -> Float[Array, "T r"]:
    """The levels that the codes name, float32."""
    return (codes.astype(jnp.float32) - (levels - 1) / 2) * step_r[None]
