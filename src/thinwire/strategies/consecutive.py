"""Causal sequence parallelism over consecutive stretches: one attention over all keys in order, own rows last.

Which rows a device sees, and how many, depends on the device alone. So the program holds a layer's attention once for
each device, with nothing padded and nothing to merge, and every device runs its own.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from thinwire.attention.call import AttentionCall
from thinwire.attention.context import last_attention
from thinwire.layout import TokenLayout
from thinwire.strategies.base import LayerScope
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire import collectives

MOST_DEVICES = 8  # each has a program of its own in the program of all


def consecutive(layout: TokenLayout) -> bool:
    """Whether every device holds one stretch, the next device the next one."""
    stretches = [stretch for own in layout.segments for stretch in own]
    follow = all(before[1] == behind[0] for before, behind in zip(stretches, stretches[1:], strict=False))
    return len(stretches) == layout.devices and follow


def keys_before(work: WorkRows, device: int) -> list[int]:
    """Of each earlier device, how many of its rows a device sees as decoded: those before its halo."""
    ((halo_start, _),) = work.halos[device]
    return [int((row < halo_start).sum()) for row in work.layout.positions_NR[:device]]


def attend_consecutively(
    strategy,
    scope: LayerScope,
    call: AttentionCall,
    mine: Any,
    own: Any,
    gather: collectives.AsyncCollective,
) -> Float[Array, "T H d"]:
    """Shared, halo and own rows exactly, those of earlier devices as ``strategy`` decodes their payloads.

    Args:
        mine: what is wanted later of this device's payloads.
        own: these payloads, on their way by ``gather``.
    """
    me, S, work = collectives.device_index(), scope.setting.layout.shared, strategy.work(scope.setting)
    if isinstance(me, int) and not strategy.looks(scope.setting)[me].any():
        # Nothing comes, so nothing would wait: payloads leave before the queries that follow them.
        call = strategy.meanwhile(gather, call)
        gathered_N = jax.tree.map(lambda x: jnp.zeros((scope.setting.layout.devices, *x.shape), x.dtype), own)
    else:
        gathered_N = gather.wait(call.q_THd)
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd, q_THd = call.rotate(k_TKd, call.position_T), call.rotate(call.q_THd, call.position_T)
    one = functools.partial(_of_device, strategy, scope, call, mine, gathered_N, work, (q_THd, k_TKd, v_TKd))
    devices = [functools.partial(one, n) for n in range(scope.setting.layout.devices)]
    out_WHd, kept_N = devices[me]() if isinstance(me, int) else lax.switch(me, devices)
    strategy.hand_on(scope, call, kept_N)
    return jnp.concatenate([last_attention(q_THd[:S], k_TKd[:S], v_TKd[:S], call.scale), out_WHd])


@jax.named_scope("attend")
def _of_device(strategy, scope: LayerScope, call: AttentionCall, mine, gathered_N, work: WorkRows, own, n: int):
    """The outputs of device ``n``'s own rows and halo, zeros behind its last one; what is wanted of all payloads."""
    S, (q_THd, k_TKd, v_TKd) = work.layout.shared, own
    stop = int(work.counts_N[n])
    keys, values, kept = [k_TKd[:S]], [v_TKd[:S]], []
    looks_N = strategy.looks(scope.setting)[n]
    for m in range(work.layout.devices):
        payloads = jax.tree.map(lambda x_N, m=m: x_N[m], gathered_N)
        if m == n or not looks_N[m]:
            kept.append(mine if m == n else _unseen(strategy, scope, payloads, mine))
            continue
        seen_RD = strategy.decode(strategy.foreseen(scope, m), call, payloads, m)
        kept.append(strategy.kept(scope, payloads, seen_RD))
        k_RKd, v_RKd = strategy.keys_values(scope, call, seen_RD, m)
        count = keys_before(work, n)[m]
        keys, values = [*keys, k_RKd[:count]], [*values, v_RKd[:count]]
    k_CKd, v_CKd = jnp.concatenate([*keys, k_TKd[S:stop]]), jnp.concatenate([*values, v_TKd[S:stop]])
    out_CHd = last_attention(q_THd[S:stop], k_CKd, v_CKd, call.scale)
    out_WHd = jnp.pad(out_CHd, ((0, len(q_THd) - stop), (0, 0), (0, 0)))
    return out_WHd, jax.tree.map(lambda *of_devices: jnp.stack(of_devices), *kept)


def _unseen(strategy, scope: LayerScope, payloads, like) -> Any:
    """What is wanted of the payloads of a device that this one does not look at: its rows are zeros."""
    seen = jnp.zeros_like(like["seen"]) if "seen" in like else None
    return strategy.kept(scope, payloads, seen)
