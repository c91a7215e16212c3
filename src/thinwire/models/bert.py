"""BERT: bidirectional, post-LN, learnt positions, biases, GELU. Pure functions, and a thin Flax module over them.

Every sublayer's sum is normalised behind it, so what enters a layer is normalised already, and the sites ``x`` and
``norm`` are the same value. The outputs are features of the tokens; there is no norm behind the last layer.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from thinwire.dims import ModelDims
from thinwire.models.bert_config import BertConfig, param_axes, param_shapes
from thinwire.models.blocks import attention_call, exact_gelu, layer_norm, mlp, positions_of
from thinwire.models.heads import merge_heads
from thinwire.models.inputs import check_inputs, inputs_spec
from thinwire.models.module import TransformerModule
from thinwire.models.stack import Tree, run_layers
from thinwire.strategies.base import LayerScope, Setting, Strategy

__all__ = ["Bert", "check_inputs", "dims", "embed", "forward", "inputs_spec", "param_axes", "param_shapes", "unembed"]


def dims(config: BertConfig) -> ModelDims:
    """The sizes that strategies and formulas need."""
    c = config
    return ModelDims(c.L, c.D, c.H, c.H, c.d, c.F, 2, c.V, c.context, causal=False, language=False)


def embed(
    params: Tree, config: BertConfig, inputs_T: Int[Array, " T"], position_T: Int[Array, " T"]
) -> Float[Array, "T D"]:
    """What enters layer 0: the normalised sum of the embeddings of token, position and segment 0."""
    x_TD = params["embed"][inputs_T] + positions_of(params["positions"], position_T) + params["types"][:1]
    return layer_norm(x_TD, params["embed_norm"], params["embed_norm_bias"], config.norm_eps)


def forward(
    params: Tree,
    config: BertConfig,
    inputs_T: Int[Array, " T"],
    position_T: Int[Array, " T"],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    cache: Mapping[str, Array] | None = None,
    prompt: Int[Array, " P"] | None = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Runs all layers on the rows of one device; arguments and results as of ``llama.forward``."""
    return run_layers(embed, _layer, params, config, inputs_T, position_T, strategy, setting, codecs, cache, prompt)


def unembed(params: Tree, x_TD: Float[Array, "T D"]) -> Float[Array, "T D"]:
    """The features of the tokens, float32: the output rows themselves."""
    del params
    return x_TD.astype(jnp.float32)


def _layer(w, config: BertConfig, x_TD, position_T, strategy: Strategy, scope: LayerScope):
    def add(x_TD, partial_TD, site, bias, norm):
        # The bias comes behind the sum, in which several devices may have a part: so it counts once.
        x_TD = x_TD + strategy.reduce(scope, partial_TD, site).astype(x_TD.dtype) + w[bias][None]
        return layer_norm(x_TD, w[norm], w[f"{norm}_bias"], config.norm_eps)

    def behind_attention(x_TD, o_THd):
        with jax.named_scope("attention"):
            x_TD = add(x_TD, merge_heads(o_THd, w["wo"]), "attn_out", "bo", "attn_norm")
        with jax.named_scope("mlp"):
            return add(x_TD, mlp(w, x_TD, exact_gelu), "mlp_out", "b_down", "mlp_norm")

    with jax.named_scope("attention"):
        call = attention_call(w, x_TD, position_T, lambda rows_TD: rows_TD, strategy, scope, causal=False)
        o_THd = strategy.attend(scope, call)
    return strategy.each_row(scope, behind_attention, x_TD, o_THd)


class Bert(TransformerModule):
    """The Flax module of a ``BertConfig``."""
