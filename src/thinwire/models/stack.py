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
# A layer of a family: its weights, the rows of one device, what else it is given -> the rows behind it.
Layer = Callable[[Tree, Float[Array, "T D"], LayerScope], Float[Array, "T D"]]


def run_layers(
    layer: Layer,
    weights: Tree,
    x_TD: Float[Array, "T D"],
    inputs: Callable[[Int[Array, " P"]], Float[Array, "P D"]],
    strategy: Strategy,
    setting: Setting,
    codecs: Mapping[str, Mapping[str, Array]] | None = None,
    cache: Mapping[str, Array] | None = None,
) -> tuple[Float[Array, "R D"], dict[str, Any]]:
    """Runs all layers on the rows of one device by ``lax.scan``.

    Args:
        layer: one layer.
        weights: arrays with a leading axis of layers.
        x_TD: what enters layer 0 on this device.
        inputs: what enters layer 0 at any positions of the sequence, for codecs that predict from it.
        codecs: by site, the codec's learnt arrays with a leading axis of layers.
        cache: arrays with a leading axis of layers, for strategies that read one.

    Returns:
        The rows of the strategy's layout behind the last layer, and what the strategy emitted, stacked over layers.
    """
    codecs = dict(codecs or {})
    everywhere = codecs.pop(SHARED, {})
    per_layer = (weights, codecs, dict(cache or {}))
    layers = jax.tree.leaves(weights)[0].shape[0]
    apart = strategy.first_apart(setting.dims)

    def body(carry, index, first):
        x_TD, carried = carry
        own, layer_codecs, layer_cache = jax.tree.map(
            lambda x: lax.dynamic_index_in_dim(x, index, keepdims=False), per_layer
        )
        scope = LayerScope(setting, layer_codecs, layer_cache, carried, inputs, first)
        x_TD = layer(own, x_TD, scope)
        return (x_TD, scope.carried), scope.emitted

    carry = (x_TD, strategy.start(setting, inputs, everywhere))
    runs = [(0, 1), (1, layers)] if apart else [(0, layers)]
    emitted = []
    for start, stop in runs:
        with ledger.layers(range(start, stop)):
            step = functools.partial(body, first=start == 0 and apart)
            carry, of_run = lax.scan(step, carry, jnp.arange(start, stop))
        emitted.append(of_run)
    return strategy.output(setting, carry[0]), jax.tree.map(lambda *layers: jnp.concatenate(layers), *emitted)
