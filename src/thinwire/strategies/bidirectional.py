"""Sequence parallelism where every token sees every other: one attention over all rows instead of a part a device."""

import jax.numpy as jnp
from jax import lax

from thinwire.attention.call import AttentionCall
from thinwire.attention.partial import finish, partial_attention
from thinwire.layout import PAD
from thinwire.strategies.base import LayerScope
from thinwire.wire import collectives


def attend_everywhere(strategy, scope: LayerScope, call: AttentionCall, gathered_N):
    """Attends to own and shared rows exactly and to the other devices' as ``strategy`` decodes their payloads.

    Nothing is masked but padding, so that scores of all keys go through one softmax, and nothing has to be merged.
    """
    layout, me = scope.setting.layout, collectives.device_index()
    S = layout.shared
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd, q_THd = call.rotate(k_TKd, call.position_T), call.rotate(call.q_THd, call.position_T)
    own = (k_TKd[S:], v_TKd[S:])

    def of_device(given):
        other, payloads = given
        if strategy.keeps(scope):  # own rows are wanted as the others see them, too
            seen_RD = strategy.decode(scope, call, payloads, other)
            theirs = strategy.keys_values(scope, call, seen_RD, other)
            mine_or_theirs = tuple(jnp.where(other == me, a, b) for a, b in zip(own, theirs, strict=True))
            return mine_or_theirs, strategy.kept(scope, payloads, seen_RD)
        decoded = lambda: strategy.keys_values(scope, call, strategy.decode(scope, call, payloads, other), other)
        return lax.cond(other == me, lambda: own, decoded), strategy.kept(scope, payloads, None)

    (k_NRKd, v_NRKd), kept_N = lax.map(of_device, (jnp.arange(layout.devices), gathered_N))
    strategy.hand_on(scope, call, kept_N)
    every = lambda shared, rows_NRKd: jnp.concatenate([shared[:S], rows_NRKd.reshape(-1, *rows_NRKd.shape[2:])])
    visible_TC = None
    if not layout.valid_NR.all():
        position_C = jnp.concatenate([jnp.zeros(S, jnp.int32), jnp.asarray(layout.positions_NR).reshape(-1)])
        visible_TC = jnp.broadcast_to(position_C[None] < PAD, (len(q_THd), len(position_C)))
    k_CKd, v_CKd = every(k_TKd, k_NRKd), every(v_TKd, v_NRKd)
    return finish(partial_attention(q_THd, k_CKd, v_CKd, visible_TC, call.scale, certain=True))
