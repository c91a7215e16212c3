"""How the parameters of every family begin."""

import math

import jax
import jax.numpy as jnp

STD = 0.02
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
    return jnp.zeros(shape) if name.endswith("bias") or name.startswith("b") else STD * jax.random.normal(key, shape)


def initialise_by_width(key: jax.Array, shapes: dict, axes: dict, layers: int) -> dict:
    """As ``initialise``, but matrices of layers normal(0, 1/√inputs), as suits training from scratch at any width.

    What adds to the residual stream is smaller by √(2·layers), so that the stream does not grow with depth [GPT-2].

    Args:
        axes: what each axis means, as of the family's ``param_axes``.
    """
    params = initialise(key, shapes)
    scaled = {name: x * _by_width(x.shape, axes["layers"][name], layers) for name, x in params["layers"].items()}
    return {**params, **(_rows_of_images(params) if "patch" in params else {}), "layers": scaled}


def _rows_of_images(params: dict) -> dict:
    """Patches of unit variance as rows of it, behind convolutions too, and class token and positions not far below.

    The first norm would else blow up the gradients of a class token near 0 until they drown all others.
    """
    std = {"patch": params["patch"].shape[0] ** -0.5, "positions": 0.2, "class_token": 1.0}
    stem = [name for name in ("stem_in", "stem_out") if name in params]
    std |= {name: (2 / params[name].shape[0]) ** 0.5 for name in stem}  # a rectifier halves the second moment
    return {name: params[name] * (wanted / STD) for name, wanted in std.items()}


def _by_width(shape: tuple[int, ...], axes: tuple[str, ...], layers: int) -> float:
    """The factor from normal(0, STD); 1 for what is no matrix."""
    if "width" not in axes or len(axes) < 3:
        return 1.0
    adds = axes[-1] == "width"
    inputs = math.prod(shape[1:-1]) if adds else shape[1]
    return inputs**-0.5 / STD * ((2 * layers) ** -0.5 if adds else 1.0)
