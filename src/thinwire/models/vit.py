"""Vision Transformers, plain and DINOv2: pre-LN, biases, GELU. Pure functions, and a thin Flax module over them.

A token is a row of patch values; row 0 belongs to the class token and holds zeros. Patches are known only to the
device that holds them, so nothing of layer 0 can be recomputed elsewhere.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.matmul import matmul
from thinwire.models.blocks import attention_call, exact_gelu, layer_norm, mlp, positions_of
from thinwire.models.heads import merge_heads
from thinwire.models.module import TransformerModule
from thinwire.models.stack import Tree, run_layers
from thinwire.models.vit_config import ViTConfig, param_axes, param_shapes
from thinwire.models.vit_positions import patches
from thinwire.models.vit_stem import convolved
from thinwire.strategies.base import LayerScope, Setting, Strategy
from thinwire.strategies.single import Single

__all__ = [
    "ViT", "check_inputs", "classify", "dims", "embed", "features", "forward", "inputs_spec", "param_axes",
    "param_shapes", "patches", "unembed",
]  # fmt: skip


def dims(config: ViTConfig) -> ModelDims:
    """The sizes that strategies and formulas need."""
    c = config
    return ModelDims(
        c.L, c.D, c.H, c.H, c.d, c.F, 2, 0, c.tokens,
        causal=False, inputs_known=False, language=False, class_token=True,
    )  # fmt: skip


def inputs_spec(config: ViTConfig, tokens: int) -> jax.ShapeDtypeStruct:
    """The shape and type of the inputs of so many tokens: patch values."""
    return jax.ShapeDtypeStruct((tokens, config.values), jnp.float32)


def check_inputs(config: ViTConfig, inputs) -> Float[np.ndarray, "T P"]:
    """The inputs as ``forward`` wants them, made by ``patches``.

    Raises:
        ThinwireError: they are not the rows of one image of the size that the model's positions are for.
    """
    rows_TP = np.asarray(inputs, np.float32)
    if rows_TP.shape != (config.tokens, config.values):
        high, wide = (config.patch * n for n in config.grid)
        raise ThinwireError(
            f"The model reads {config.tokens} rows of {config.values} values, of an image of {high} by {wide} pixels, "
            f"and was given an array of shape {rows_TP.shape}; resize the image, or the model's positions."
        )
    return rows_TP


def forward(
    params: Tree,
    config: ViTConfig,
    inputs_T: Float[Array, "T P"],
    position_T: Int[Array, " T"],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    cache: Mapping[str, Array] | None = None,
    prompt: Any = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Runs all layers on the rows of one device.

    Args:
        params: as ``param_shapes`` (or this device's part of it); its type is the type of computation.
        inputs_T, position_T: patch values and position of each row; position 0 is the class token.
        codecs: by site, the codec's learnt arrays with a leading axis of layers.
        cache: arrays with a leading axis of layers, for strategies that read one.
        prompt: only a device's own patches are known to it, so codecs that predict do not look at it.

    Returns:
        The normalised output rows, and what the strategy emitted, stacked over layers.
    """
    x_TD, emitted = run_layers(
        embed, _layer, params, config, inputs_T, position_T, strategy, setting, codecs, cache, prompt
    )
    return layer_norm(x_TD, params["final_norm"], params["final_norm_bias"], config.norm_eps), emitted


def unembed(params: Tree, x_TD: Float[Array, "T D"]) -> Float[Array, "T D"]:
    """The features: normalised output rows, float32."""
    del params
    return x_TD.astype(jnp.float32)


def classify(params: Tree, features_TD: Float[np.ndarray, "T D"]) -> Float[np.ndarray, " classes"]:
    """Logits of the head from the features of an image, on the host; where class tokens were pooled, from their mean.

    Raises:
        ThinwireError: the model has no head.
    """
    if "head" not in params:
        raise ThinwireError("The model has no classification head; it gives features.")
    return np.asarray(features_TD)[0] @ np.asarray(params["head"]) + np.asarray(params["head_bias"])


def features(params: Tree, config: ViTConfig, rows_TP: Float[Array, "T P"]) -> Float[Array, "T D"]:
    """Features of an image on a single device, float32."""
    model, strategy, tokens = dims(config), Single(), rows_TP.shape[0]
    setting = Setting(model, strategy.layout(model, tokens, 1, None))
    x_TD, _ = forward(params, config, rows_TP, jnp.arange(tokens), strategy, setting)
    return unembed(params, x_TD)


def embed(
    params: Tree, config: ViTConfig, inputs_T: Float[Array, "T P"], position_T: Int[Array, " T"]
) -> Float[Array, "T D"]:
    """What enters layer 0: patches projected, behind convolutions or not, or the class token; and positions."""
    patch_PD = params["patch"]
    rows_TP = inputs_T.astype(patch_PD.dtype)
    if config.stem:
        rows_TP = convolved(params, rows_TP, config.window, config.channels)
    x_TD = matmul(rows_TP, patch_PD).astype(patch_PD.dtype) + params["patch_bias"][None]
    x_TD = jnp.where(position_T[:, None] == 0, params["class_token"][None], x_TD)
    return x_TD + positions_of(params["positions"], position_T)


def _layer(w, config: ViTConfig, x_TD, position_T, strategy: Strategy, scope: LayerScope):
    def norm(rows_TD, which):
        return layer_norm(rows_TD, w[f"{which}_norm"], w[f"{which}_norm_bias"], config.norm_eps)

    def add(x_TD, partial_TD, site, bias, scale):
        # Behind the sum, which several devices may have had a part in: so the bias counts once.
        out_TD = strategy.reduce(scope, partial_TD, site).astype(x_TD.dtype) + w[bias][None]
        return x_TD + (out_TD * w[scale][None] if config.layer_scale else out_TD)

    def behind_attention(x_TD, o_THd):
        with jax.named_scope("attention"):
            x_TD = add(x_TD, merge_heads(o_THd, w["wo"]), "attn_out", "bo", "attn_scale")
        with jax.named_scope("mlp"):
            return add(x_TD, mlp(w, norm(x_TD, "mlp"), exact_gelu), "mlp_out", "b_down", "mlp_scale")

    with jax.named_scope("attention"):
        call = attention_call(w, x_TD, position_T, lambda rows: norm(rows, "attn"), strategy, scope, causal=False)
        o_THd = strategy.attend(scope, call)
    return strategy.each_row(scope, behind_attention, x_TD, o_THd)


class ViT(TransformerModule):
    """The Flax module of a ``ViTConfig``; what it reads are the rows of ``patches``."""
