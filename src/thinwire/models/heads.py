"""Rows as heads, and heads as rows."""

import jax
from jaxtyping import Array, Float

from thinwire.matmul import matmul


@jax.named_scope("project")
def split_heads(x_TD: Float[Array, "T D"], w_DHd: Float[Array, "D H d"]) -> Float[Array, "T H d"]:
    """Rows through a projection to heads, in the rows' type."""
    D, H, d = w_DHd.shape
    return matmul(x_TD, w_DHd.reshape(D, H * d)).astype(x_TD.dtype).reshape(-1, H, d)


@jax.named_scope("project")
def merge_heads(o_THd: Float[Array, "T H d"], w_HdD: Float[Array, "H d D"]) -> Float[Array, "T D"]:
    """The outputs of all heads through the output projection, in the projection's type.

    One product of matrices: from an einsum over both axes XLA's CPU backend makes one that copies the weights first,
    turned round.
    """
    H, d, D = w_HdD.shape
    return matmul(o_THd.astype(w_HdD.dtype).reshape(-1, H * d), w_HdD.reshape(H * d, D)).astype(w_HdD.dtype)
