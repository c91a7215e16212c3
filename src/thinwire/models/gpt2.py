"""GPT-2: pre-LN, learnt positions, biases, tanh GELU, tied head. Pure functions, and a thin Flax module over them.

The functions run on the rows that one device holds, as Llama's do, and know no strategy either.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from thinwire.dims import ModelDims
from thinwire.models.blocks import attention_call, layer_norm, mlp, positions_of
from thinwire.models.gpt2_config import GPT2Config, param_axes, param_shapes
from thinwire.models.heads import merge_heads
from thinwire.models.inputs import check_inputs, inputs_spec
from thinwire.models.module import TransformerModule
from thinwire.models.stack import Tree, run_layers
from thinwire.strategies.base import LayerScope, Setting, Strategy

__all__ = ["GPT2", "check_inputs", "dims", "embed", "forward", "inputs_spec", "param_axes", "param_shapes", "unembed"]


def dims(config: GPT2Config) -> ModelDims:
    """The sizes that strategies and formulas need."""
    c = config
    return ModelDims(c.L, c.D, c.H, c.H, c.d, c.F, 2, c.V, c.context, causal=True)


def embed(
    params: Tree, config: GPT2Config, inputs_T: Int[Array, " T"], position_T: Int[Array, " T"]
) -> Float[Array, "T D"]:
    """What enters layer 0: the embedding of each token plus that of its position."""
    del config
    return params["embed"][inputs_T] + positions_of(params["positions"], position_T)


def forward(
    params: Tree,
    config: GPT2Config,
    inputs_T: Int[Array, " T"],
    position_T: Int[Array, " T"],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    cache: Mapping[str, Array] | None = None,
    prompt: Int[Array, " P"] | None = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Runs all layers on the rows of one device; arguments and results as of ``llama.forward``."""
    x_TD, emitted = run_layers(
        embed, _layer, params, config, inputs_T, position_T, strategy, setting, codecs, cache, prompt
    )
    return layer_norm(x_TD, params["final_norm"], params["final_norm_bias"], config.norm_eps), emitted


def unembed(params: Tree, x_TD: Float[Array, "T D"]) -> Float[Array, "T V"]:
    """Logits of normalised output rows, float32."""
    return jnp.einsum("td,vd->tv", x_TD, params["embed"], preferred_element_type=jnp.float32)


def _layer(w, config: GPT2Config, x_TD, position_T, strategy: Strategy, scope: LayerScope):
    def add(x_TD, partial_TD, site, bias):
        # The bias comes behind the sum, in which several devices may have a part: so it counts once.
        return x_TD + strategy.reduce(scope, partial_TD, site).astype(x_TD.dtype) + w[bias][None]

    def attn_norm(rows_TD):
        return layer_norm(rows_TD, w["attn_norm"], w["attn_norm_bias"], config.norm_eps)

    def behind_attention(x_TD, o_THd):
        with jax.named_scope("attention"):
            x_TD = add(x_TD, merge_heads(o_THd, w["wo"]), "attn_out", "bo")
        with jax.named_scope("mlp"):
            h_TD = layer_norm(x_TD, w["mlp_norm"], w["mlp_norm_bias"], config.norm_eps)
            return add(x_TD, mlp(w, h_TD, jax.nn.gelu), "mlp_out", "b_down")  # the approximation, as GPT-2 has it

    with jax.named_scope("attention"):
        call = attention_call(w, x_TD, position_T, attn_norm, strategy, scope, causal=True)
        o_THd = strategy.attend(scope, call)
    return strategy.each_row(scope, behind_attention, x_TD, o_THd)


class GPT2(TransformerModule):
    """The Flax module of a ``GPT2Config``."""
