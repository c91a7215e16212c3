"""How heads become a row again."""

import jax
from jaxtyping import Array, Float


@jax.named_scope("project")
def merge_heads(o_THd: Float[Array, "T H d"], w_HdD: Float[Array, "H d D"]) -> Float[Array, "T D"]:
    """The outputs of all heads through the output projection, in the projection's type.

    One product of matrices: from an einsum over both axes XLA's CPU backend makes one that copies the weights first,
    turned round.
    """
    H, d, D = w_HdD.shape
    return o_THd.astype(w_HdD.dtype).reshape(-1, H * d) @ w_HdD.reshape(H * d, D)
