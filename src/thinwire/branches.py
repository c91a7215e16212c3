"""Work that only some devices do: skipped at run time on a mesh (under ``vmap`` both branches are computed)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def or_zeros(needed, function: Callable[..., Any], *arrays) -> Any:
    """``function(*arrays)`` where it is needed, else zeros of the same shapes.

    Args:
        needed: a boolean scalar that may depend on the device; nothing in ``function`` may communicate.
        function: what is skipped where it is not.
        arrays: that it is given.
    """

    def zeros(*arrays):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arrays))

    return lax.cond(needed, function, zeros, *arrays)
