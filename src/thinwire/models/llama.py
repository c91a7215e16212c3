"""Llama: grouped queries, rotary positions, RMSNorm, SwiGLU. Pure functions, and a thin Flax module over them.

The functions run on the rows that one device holds; what those rows may attend to and how partial sums become whole
is the strategy's business. Nothing here depends on which strategy that is.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from thinwire.attention.call import AttentionCall
from thinwire.dims import ModelDims
from thinwire.matmul import matmul
from thinwire.models.heads import merge_heads, split_heads
from thinwire.models.inputs import check_inputs, inputs_spec
from thinwire.models.llama_config import LlamaConfig, param_axes, param_shapes
from thinwire.models.module import TransformerModule
from thinwire.models.rope import rope_frequencies
from thinwire.models.stack import Tree, run_layers
from thinwire.strategies.base import LayerScope, Setting, Strategy
from thinwire.strategies.single import Single

__all__ = [
    "Llama", "check_inputs", "dims", "embed", "forward", "inputs_spec", "logits", "param_axes", "param_shapes",
    "unembed",
]  # fmt: skip


def dims(config: LlamaConfig) -> ModelDims:
    """The sizes that strategies and formulas need."""
    c = config
    return ModelDims(c.L, c.D, c.H, c.K, c.d, c.F, 3, c.V, c.context, causal=True)


def embed(
    params: Tree, config: LlamaConfig, inputs_T: Int[Array, " T"], position_T: Int[Array, " T"]
) -> Float[Array, "T D"]:
    """What enters layer 0: the embedding of each token, wherever it stands."""
    del config, position_T
    return params["embed"][inputs_T]


def forward(
    params: Tree,
    config: LlamaConfig,
    inputs_T: Int[Array, " T"],
    position_T: Int[Array, " T"],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    cache: Mapping[str, Array] | None = None,
    prompt: Int[Array, " P"] | None = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Runs all layers on the rows of one device.

    Args:
        params: as ``param_shapes`` (or this device's part of it); its type is the type of computation.
        inputs_T, position_T: token id and position of each row.
        codecs: by site, the codec's learnt arrays with a leading axis of layers.
        cache: arrays with a leading axis of layers, for strategies that read one.
        prompt: the tokens of the whole sequence, which every device knows; by default those of the rows.

    Returns:
        The normalised output rows, and what the strategy emitted, stacked over layers.
    """
    x_TD, emitted = run_layers(
        embed, _layer, params, config, inputs_T, position_T, strategy, setting, codecs, cache, prompt
    )
    return _rms_norm(x_TD, params["final_norm"], config.norm_eps), emitted


def unembed(params: Tree, x_TD: Float[Array, "T D"]) -> Float[Array, "T V"]:
    """Logits of normalised output rows, float32."""
    head_DV = params["head"] if "head" in params else params["embed"].T
    return jnp.einsum("td,dv->tv", x_TD, head_DV, preferred_element_type=jnp.float32)


def logits(params: Tree, config: LlamaConfig, ids_T: Int[Array, " T"]) -> Float[Array, "T V"]:
    """Logits of a sequence on a single device, float32."""
    params = jax.tree.map(jnp.asarray, params)
    model = dims(config)
    strategy = Single()
    setting = Setting(model, strategy.layout(model, ids_T.shape[0], 1, None))
    x_TD, _ = forward(params, config, ids_T, jnp.arange(ids_T.shape[0]), strategy, setting)
    return unembed(params, x_TD)


def _layer(w, config: LlamaConfig, x_TD, position_T, strategy: Strategy, scope: LayerScope):
    def behind_attention(x_TD, o_THd):
        with jax.named_scope("attention"):
            partial_TD = merge_heads(o_THd, w["wo"])
            x_TD = x_TD + strategy.reduce(scope, partial_TD, "attn_out").astype(x_TD.dtype)
        with jax.named_scope("mlp"):
            h_TD = _rms_norm(x_TD, w["mlp_norm"], config.norm_eps)
            hidden_TF = jax.nn.silu(matmul(h_TD, w["w_gate"])) * matmul(h_TD, w["w_up"])
            partial_TD = matmul(hidden_TF.astype(x_TD.dtype), w["w_down"]).astype(x_TD.dtype)
            return x_TD + strategy.reduce(scope, partial_TD, "mlp_out").astype(x_TD.dtype)

    with jax.named_scope("attention"):
        o_THd = strategy.attend(scope, _attention_call(w, config, x_TD, position_T, strategy, scope))
    return strategy.each_row(scope, behind_attention, x_TD, o_THd)


def _attention_call(w, config: LlamaConfig, x_TD, position_T, strategy: Strategy, scope: LayerScope) -> AttentionCall:
    def of_rows(x_TD):
        h_TD = _rms_norm(x_TD, w["attn_norm"], config.norm_eps)
        kv_TKd = jnp.concatenate(keys_values("norm", h_TD), axis=1)
        return h_TD, kv_TKd.reshape(len(h_TD), -1)

    def keys_values(site, rows):
        if site == "kv":
            k, v = jnp.split(rows.reshape(rows.shape[0], -1, config.d), 2, axis=1)
            return k, v
        normed = _rms_norm(rows, w["attn_norm"], config.norm_eps) if site == "x" else rows
        return split_heads(normed, w["wk"]), split_heads(normed, w["wv"])

    h_TD, kv_TE = strategy.each_row(scope, of_rows, x_TD)
    return AttentionCall(
        position_T=position_T,
        queries=lambda h_TD: strategy.each_row(scope, lambda h_TD: split_heads(h_TD, w["wq"]), h_TD),
        sites={"x": x_TD, "norm": h_TD, "kv": kv_TE},
        keys_values=keys_values,
        rotate=lambda x, position: _rotate(x, position, config),
        scale=config.d**-0.5,
        causal=True,
    )


def _rms_norm(x_TD, gain_D, eps):
    x32 = x_TD.astype(jnp.float32)
    x32 = x32 * lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * gain_D.astype(jnp.float32)[None]).astype(x_TD.dtype)


def _rotate(x_THd, position_T, config: LlamaConfig):
    """Rotary positions, pairs (i, i + d/2) as in Hugging Face's Llama."""
    angle_TF = position_T.astype(jnp.float32)[:, None] * jnp.asarray(rope_frequencies(config))[None]
    cos, sin = _once(jnp.cos(angle_TF))[:, None], _once(jnp.sin(angle_TF))[:, None]
    a, b = jnp.split(x_THd.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_THd.dtype)


def _once(x_TF):
    """The same numbers, computed once for all that use them.

    XLA's CPU backend puts sines and cosines into the loop over heads and computes them anew for each of them, barrier
    or not: ten times the time of the rotation. What comes out of a matrix product it leaves alone.
    """
    by_product = lambda x_TF: jnp.matmul(x_TF, jnp.eye(x_TF.shape[1]), precision=lax.Precision.HIGHEST)
    return lax.platform_dependent(x_TF, cpu=by_product, default=lambda x_TF: x_TF)


class Llama(TransformerModule):
    """The Flax module of a ``LlamaConfig``."""
