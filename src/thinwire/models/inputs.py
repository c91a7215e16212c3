"""What a user may give a model to read."""

import numpy as np
from jaxtyping import Int

from thinwire.errors import ThinwireError


def check_ids(ids_T, vocab: int) -> Int[np.ndarray, " T"]:
    """Token ids as int32.

    Raises:
        ThinwireError: there are none, or one is not in a vocabulary of this size.
    """
    ids_T = np.asarray(ids_T, np.int32)
    if not len(ids_T):
        raise ThinwireError("The prompt is empty; give at least one token.")
    if ids_T.min() < 0 or ids_T.max() >= vocab:
        raise ThinwireError(f"Token ids go from {ids_T.min()} to {ids_T.max()}; this model has 0 to {vocab - 1}.")
    return ids_T
