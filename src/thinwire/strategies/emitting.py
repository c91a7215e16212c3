"""What a prefill by a sequence strategy leaves on each device for a continuation."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from thinwire.attention.call import AttentionCall
from thinwire.strategies.base import LayerScope
from thinwire.wire import collectives


def emit_cache(strategy, scope: LayerScope, call: AttentionCall, kept_N: Mapping[str, Any]) -> None:
    """Emits the shared rows, then the own ones (and their halo), exact; or every device's, exact where known."""
    layout, keep = scope.setting.layout, scope.setting.keep_cache
    S, work = layout.shared, strategy.work(scope.setting)
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd = call.rotate(k_TKd, call.position_T)
    if keep == "own":
        scope.emitted["cache"] = {"k": work.own(k_TKd), "v": work.own(v_TKd)}
        return
    if keep == "codes" or strategy.alone:
        scope.emitted["cache"] = {"k": k_TKd, "v": v_TKd}
        if keep == "codes":
            scope.emitted["payloads"] = _same_in_all_layers(strategy, scope, call, kept_N["payloads"])
        return
    devices = jnp.arange(layout.devices)
    k_NRKd, v_NRKd = jax.vmap(lambda seen_RD, n: strategy.keys_values(scope, call, seen_RD, n))(kept_N["seen"], devices)
    here_W = jnp.asarray(collectives.of_this_device(work.places_NW))

    def mixed(seen_NRKd, exact_TKd):
        rows = seen_NRKd.reshape(-1, *exact_TKd.shape[1:]).at[here_W].set(exact_TKd[S:], mode="drop")
        return jnp.concatenate([exact_TKd[:S], rows])

    scope.emitted["cache"] = {"k": mixed(k_NRKd, k_TKd), "v": mixed(v_NRKd, v_TKd)}


def _same_in_all_layers(strategy, scope: LayerScope, call: AttentionCall, payloads_N):
    """The payloads; of a layer that sends none, as many zeros, since what is emitted is stacked over layers."""
    if not scope.first:
        return payloads_N
    like = jax.eval_shape(lambda: strategy.own_payloads(scope, call))
    return jax.tree.map(lambda x: jnp.zeros((scope.setting.layout.devices, *x.shape), x.dtype), like)
