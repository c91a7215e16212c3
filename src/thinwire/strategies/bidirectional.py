"""Sequence parallelism where every token sees every other: one attention over all rows instead of a part a device."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from thinwire.attention.call import AttentionCall
from thinwire.attention.partial import finish, partial_attention
from thinwire.layout import TokenLayout
from thinwire.strategies.base import LayerScope
from thinwire.strategies.undecoded import attend_undecoded
from thinwire.wire import collectives


@jax.named_scope("attend")
def attend_everywhere(strategy, scope: LayerScope, call: AttentionCall, mine, gather: collectives.AsyncCollective):
    """Attends to own and shared rows exactly and to the other devices' as ``strategy`` decodes their payloads.

    Scores of all keys go through one softmax, so that nothing has to be merged, and masked only where codes got lost.
    Keys have no order there: own rows come first, then those of the next device and so on round the circle; rows that
    only pad are left out. ``mine`` is what is wanted later of the own payloads. Queries are computed while payloads
    travel.
    """
    layout = scope.setting.layout
    others, payloads_O = strategy.others(scope, gather.wait(call.q_THd))
    here_OR = jax.vmap(lambda other: strategy.here(scope, other))(others)
    undecoded = attend_undecoded(strategy, scope, call, payloads_O, others) if here_OR is None else None
    if undecoded is not None:
        return undecoded
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd, q_THd = call.rotate(k_TKd, call.position_T), call.rotate(call.q_THd, call.position_T)

    def look(other, payloads):
        seen_RD = strategy.decode(scope, call, payloads, other)
        return seen_RD, strategy.kept(scope, payloads, seen_RD)

    seen_ORD, theirs_O = jax.vmap(look)(others, payloads_O)
    strategy.hand_on(scope, call, strategy.in_order(scope, mine, theirs_O))
    project = lambda seen_RD, other: strategy.keys_values(scope, call, seen_RD, other)
    k_ORKd, v_ORKd = jax.vmap(project)(seen_ORD, others)
    join = lambda own_TKd, theirs_ORKd: jnp.concatenate([own_TKd, theirs_ORKd.reshape(-1, *own_TKd.shape[1:])])
    k_CKd, v_CKd = join(k_TKd, k_ORKd), join(v_TKd, v_ORKd)
    here_C = None if here_OR is None else join(jnp.ones(len(k_TKd), bool), here_OR)
    if not layout.valid_NR.all():
        row_T = collectives.of_this_device(_rows_with_tokens(layout))
        pick = lambda x_C: _stretches(x_C, row_T) if isinstance(row_T, np.ndarray) else _rows(x_C, row_T)
        k_CKd, v_CKd, here_C = pick(k_CKd), pick(v_CKd), None if here_C is None else pick(here_C)
    attend = lambda q_THd: finish(partial_attention(q_THd, k_CKd, v_CKd, here_C, call.scale))
    return strategy.each_row(scope, attend, q_THd)


def _rows_with_tokens(layout: TokenLayout) -> Int[np.ndarray, "N T"]:
    """For each device, which of the rows put together there are no padding: as many as there are tokens."""
    own_first = [np.roll(layout.valid_NR, -device, axis=0).reshape(-1) for device in range(layout.devices)]
    valid_NC = np.pad(own_first, ((0, 0), (layout.shared, 0)), constant_values=True)
    return np.stack([np.flatnonzero(valid_C) for valid_C in valid_NC]).astype(np.int32)


def _rows(x_C, row_T):
    return jnp.take(x_C, row_T, axis=0, mode="clip")


def _stretches(x_C, row_T: Int[np.ndarray, " T"]):
    """The same of rows known beforehand, stretch by stretch."""
    ends = [0, *(np.flatnonzero(np.diff(row_T) != 1) + 1).tolist(), len(row_T)]
    return jnp.concatenate([x_C[row_T[a] : row_T[b - 1] + 1] for a, b in zip(ends[:-1], ends[1:], strict=True)])
