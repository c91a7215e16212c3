"""The loop over the layers of a Transformer, the same for every family."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from thinwire.codecs.base import SHARED
from thinwire.strategies.base import LayerScope, Setting, Strategy
from thinwire.wire import ledger

Tree = Mapping[str, Any]
# What enters layer 0: weights, configuration, inputs and positions of rows -> rows.
Embed = Callable[[Tree, Any, Any, Int[Array, " T"]], Float[Array, "T D"]]
# A layer: its weights, configuration, rows and positions, the strategy, what else it is given -> the rows behind it.
Layer = Callable[[Tree, Any, Float[Array, "T D"], Int[Array, " T"], Strategy, LayerScope], Float[Array, "T D"]]


def run_layers(
    embed: Embed,
    layer: Layer,
    params: Tree,
    config: Any,
    inputs_T: Any,
    position_T: Int[Array, " T"],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    cache: Mapping[str, Array] | None = None,
    prompt: Any = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Embeds the rows of one device and runs all layers on them by ``lax.scan``; the rest as of a family's ``forward``.

    Args:
        embed: what enters layer 0, of the own rows and, for codecs that predict from it, at any positions.
        layer: one layer.
        params: those of the layers have a leading axis of layers, or are tuples as of ``unstack``.
        inputs_T, position_T: input and position of each row.
        codecs: by site, the codec's learnt arrays with a leading axis of layers.
        cache: arrays with a leading axis of layers, for strategies that read one.
        prompt: the inputs of the whole sequence, where every device knows them; by default those of the rows.

    Returns:
        The rows of the strategy's layout behind the last layer, and what the strategy emitted, stacked over layers.
    """
    embed = jax.named_scope("embed")(embed)
    known_T = inputs_T if prompt is None else prompt

    def inputs(position_T):
        if not setting.dims.inputs_known:
            raise ValueError("no device knows what enters layer 0 elsewhere in this model")
        return embed(params, config, known_T[jnp.minimum(position_T, known_T.shape[0] - 1)], position_T)

    x_TD, weights = embed(params, config, inputs_T, position_T), params["layers"]
    codecs = dict(codecs or {})
    everywhere = codecs.pop(SHARED, {})
    per_layer = (weights, codecs, dict(cache or {}))
    layers, apart = setting.dims.layers, strategy.first_apart(setting.dims)

    def body(carry, index, first):
        x_TD, carried = carry
        own, layer_codecs, layer_cache = _of_layer(per_layer, index)
        scope = LayerScope(setting, layer_codecs, layer_cache, carried, inputs, first)
        x_TD = layer(own, config, x_TD, position_T, strategy, scope)
        return (x_TD, scope.carried), scope.emitted

    carry = (x_TD, strategy.start(setting, inputs, everywhere))
    runs = [(0, 1), (1, layers)] if apart else [(0, layers)]
    emitted = []
    for start, stop in runs:
        step = functools.partial(body, first=start == 0 and apart)
        if strategy.recomputed_backwards:
            step = jax.checkpoint(step, prevent_cse=False)  # a loop needs no barrier against finding the same twice
        carry, of_run = _loop(step, carry, range(start, stop), unrolled=_unstacked(weights))
        emitted.append(of_run)
    return strategy.output(setting, carry[0]), jax.tree.map(lambda *layers: jnp.concatenate(layers), *emitted)


def unstack(tree: Any, axis: int = 0) -> Any:
    """Each array as a tuple of its layers' arrays: ``run_layers`` then copies none of them out of a stack."""
    return jax.tree.map(lambda x: tuple(x[(slice(None),) * axis + (n,)] for n in range(x.shape[axis])), tree)


def _unstacked(tree: Any) -> bool:
    return any(isinstance(x, tuple) for x in jax.tree.leaves(tree, is_leaf=_is_layers))


def _is_layers(x: Any) -> bool:
    return isinstance(x, tuple)


def _of_layer(trees: tuple, index: Any) -> tuple:
    pick = lambda x: x[index] if _is_layers(x) else lax.dynamic_index_in_dim(x, index, keepdims=False)
    return tuple(jax.tree.map(pick, tree, is_leaf=_is_layers) for tree in trees)


def _loop(step: Callable, carry: Any, which: range, unrolled: bool) -> tuple[Any, Any]:
    """``lax.scan`` over layers, or one layer after another, each with its own piece of program."""
    if not unrolled:
        with ledger.layers(which):
            return lax.scan(step, carry, jnp.arange(which.start, which.stop))
    emitted = []
    for index in which:
        with ledger.layers(range(index, index + 1)), jax.named_scope(f"layer_{index}"):
            carry, of_layer = step(carry, index)
        emitted.append(of_layer)
    return carry, jax.tree.map(lambda *layers: jnp.stack(layers), *emitted)
