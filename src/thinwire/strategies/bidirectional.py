"""Sequence parallelism where every token sees every other: one attention over all rows instead of a part a device."""

import jax
import jax.numpy as jnp

from thinwire.attention.call import AttentionCall
from thinwire.attention.partial import finish, partial_attention
from thinwire.strategies.base import LayerScope
from thinwire.strategies.undecoded import attend_undecoded
from thinwire.wire import collectives


def attend_everywhere(strategy, scope: LayerScope, call: AttentionCall, gathered_N):
    """Attends to own and shared rows exactly and to the other devices' as ``strategy`` decodes their payloads.

    Nothing is masked but padding, so that scores of all keys go through one softmax, and nothing has to be merged. Keys
    have no order there: own rows come first, then those of the next device and so on round the circle.
    """
    layout, me = scope.setting.layout, collectives.device_index()
    others = (me + jnp.arange(1, layout.devices)) % layout.devices
    visible_C = None
    if not layout.valid_NR.all():
        valid_NR = jnp.roll(jnp.asarray(layout.valid_NR), -me, axis=0)
        visible_C = jnp.concatenate([jnp.ones(layout.shared, bool), valid_NR.reshape(-1)])
    undecoded = attend_undecoded(strategy, scope, call, gathered_N, others, visible_C)
    if undecoded is not None:
        return undecoded
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd, q_THd = call.rotate(k_TKd, call.position_T), call.rotate(call.q_THd, call.position_T)

    def seen(devices, payloads_N):
        return jax.vmap(lambda other, payloads: strategy.decode(scope, call, payloads, other))(devices, payloads_N)

    of = lambda tree, devices: jax.tree.map(lambda x_N: jnp.take(x_N, devices, axis=0), tree)
    if strategy.keeps(scope):  # own rows are wanted as the others see them, too
        seen_NRD = seen(jnp.arange(layout.devices), gathered_N)
        kept_N = strategy.kept(scope, gathered_N, seen_NRD)
        seen_ORD = of(seen_NRD, others)
    else:
        kept_N = strategy.kept(scope, gathered_N, None)
        seen_ORD = seen(others, of(gathered_N, others))
    strategy.hand_on(scope, call, kept_N)
    k_ORKd, v_ORKd = jax.vmap(lambda seen_RD, other: strategy.keys_values(scope, call, seen_RD, other))(
        seen_ORD, others
    )
    join = lambda own_TKd, theirs_ORKd: jnp.concatenate([own_TKd, theirs_ORKd.reshape(-1, *own_TKd.shape[1:])])
    k_CKd, v_CKd = join(k_TKd, k_ORKd), join(v_TKd, v_ORKd)
    return finish(partial_attention(q_THd, k_CKd, v_CKd, visible_C, call.scale, certain=True))
