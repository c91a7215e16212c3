"""How the parameters of every family begin."""

import jax
import jax.numpy as jnp

GAINS = ("norm", "scale")  # endings of the names of what multiplies, and begins as one


def initialise(key: jax.Array, shapes: dict) -> dict:
    """The tree of these shapes: gains one, biases zero, all else normal(0, 0.02)."""
    keys = jax.random.split(key, len(shapes))
    return {name: _leaf(k, name, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def _leaf(key, name, shape):
    if isinstance(shape, dict):
        return initialise(key, shape)
    if name.endswith(GAINS):
        return jnp.ones(shape)
    return jnp.zeros(shape) if name.endswith("bias") or name.startswith("b") else 0.02 * jax.random.normal(key, shape)
