"""What a user may give a model of text to read; each family of those offers these two as its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from thinwire.errors import ThinwireError


def inputs_spec(config: Any, tokens: int) -> jax.ShapeDtypeStruct:
    """The shape and type of the inputs of so many tokens: their ids."""
    del config
    return jax.ShapeDtypeStruct((tokens,), jnp.int32)


def check_inputs(config: Any, inputs: Any) -> Int[np.ndarray, " T"]:
    """Token ids as ``forward`` wants them, int32.

    Raises:
        ThinwireError: there are none, or one is not in the model's vocabulary of ``config.V``.
    """
    ids_T = np.asarray(inputs, np.int32)
    if not len(ids_T):
        raise ThinwireError("The prompt is empty; give at least one token.")
    if ids_T.min() < 0 or ids_T.max() >= config.V:
        raise ThinwireError(f"Token ids go from {ids_T.min()} to {ids_T.max()}; this model has 0 to {config.V - 1}.")
    return ids_T
