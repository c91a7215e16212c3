"""What GPT-2, BERT and vision Transformers have in common: LayerNorm, biases, learnt positions, keys for every head."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from thinwire.attention.call import AttentionCall
from thinwire.matmul import matmul
from thinwire.models.heads import split_heads
from thinwire.strategies.base import LayerScope, Strategy

Weights = Mapping[str, Array]
exact_gelu = functools.partial(jax.nn.gelu, approximate=False)

_AXES: dict[str, tuple[str, ...]] = {
    "attn_norm": ("width",),
    "attn_norm_bias": ("width",),
    "wq": ("width", "heads", "head"),
    "bq": ("heads", "head"),
    "wk": ("width", "kv_heads", "head"),
    "bk": ("kv_heads", "head"),
    "wv": ("width", "kv_heads", "head"),
    "bv": ("kv_heads", "head"),
    "wo": ("heads", "head", "width"),
    "bo": ("width",),
    "mlp_norm": ("width",),
    "mlp_norm_bias": ("width",),
    "w_up": ("width", "hidden"),
    "b_up": ("hidden",),
    "w_down": ("hidden", "width"),
    "b_down": ("width",),
}


def layer_shapes(L: int, D: int, H: int, F: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all layers' arrays, for H heads of width D/H and F hidden columns."""
    sizes = {"width": D, "heads": H, "kv_heads": H, "head": D // H, "hidden": F}
    return {name: (L, *(sizes[axis] for axis in axes)) for name, axes in _AXES.items()}


def layer_axes() -> dict[str, tuple[str, ...]]:
    """The meaning of their axes."""
    return {name: ("layer", *axes) for name, axes in _AXES.items()}


def layer_norm(
    x_TD: Float[Array, "T D"], gain_D: Float[Array, " D"], bias_D: Float[Array, " D"], eps: float
) -> Float[Array, "T D"]:
    """Rows of mean 0 and variance 1, times a gain, plus a bias; computed in float32."""
    x32 = x_TD.astype(jnp.float32)
    x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    x32 = x32 * lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * gain_D.astype(jnp.float32)[None] + bias_D.astype(jnp.float32)[None]).astype(x_TD.dtype)


def attention_call(
    w: Weights,
    x_TD: Float[Array, "T D"],
    position_T: Int[Array, " T"],
    normalise: Callable[[Float[Array, "R D"]], Float[Array, "R D"]],
    strategy: Strategy,
    scope: LayerScope,
    causal: bool,
) -> AttentionCall:
    """The attention of one layer, of which ``x`` is the input.

    Args:
        normalise: from ``x`` to what is projected.
    """
    d = w["wq"].shape[-1]

    def project(rows_TD, which):
        return split_heads(rows_TD, w[f"w{which}"]) + w[f"b{which}"][None]

    def keys_values(site, rows):
        if site == "kv":
            k, v = jnp.split(rows.reshape(rows.shape[0], -1, d), 2, axis=1)
            return k, v
        normed = normalise(rows) if site == "x" else rows
        return project(normed, "k"), project(normed, "v")

    def of_rows(x_TD):
        h_TD = normalise(x_TD)
        return h_TD, jnp.concatenate(keys_values("norm", h_TD), axis=1).reshape(len(h_TD), -1)

    h_TD, kv_TE = strategy.each_row(scope, of_rows, x_TD)
    return AttentionCall(
        position_T=position_T,
        queries=lambda h_TD: strategy.each_row(scope, lambda h_TD: project(h_TD, "q"), h_TD),
        sites={"x": x_TD, "norm": h_TD, "kv": kv_TE},
        keys_values=keys_values,
        rotate=lambda x, position: x,  # positions were added before layer 0
        scale=d**-0.5,
        causal=causal,
        rotary=False,
    )


def mlp(w: Weights, x_TD: Float[Array, "T D"], activation: Callable[[Array], Array]) -> Float[Array, "T D"]:
    """Both products of a layer's MLP, without the last bias; the activation in float32."""
    hidden_TF = activation(matmul(x_TD, w["w_up"]) + w["b_up"].astype(jnp.float32)[None])
    return matmul(hidden_TF.astype(x_TD.dtype), w["w_down"]).astype(x_TD.dtype)


def positions_of(table_PD: Float[Array, "P D"], position_T: Int[Array, " T"]) -> Float[Array, "T D"]:
    """The learnt position of each row; any one for rows without a token."""
    return table_PD[jnp.minimum(position_T, table_PD.shape[0] - 1)]
