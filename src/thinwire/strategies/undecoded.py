"""Attention to other devices' codes as they are: where every token sees every other, and code tables are chosen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from thinwire.attention import code_table
from thinwire.attention.call import AttentionCall
from thinwire.attention.coded import Coded, coded
from thinwire.attention.partial import Partial, finish, merge, partial_attention
from thinwire.codecs.vq import GroupedVQ
from thinwire.kernels.choice import chosen
from thinwire.strategies.base import LayerScope
from thinwire.wire import collectives

Visible = Bool[Array, " _"] | None


def attend_undecoded(strategy, scope: LayerScope, call: AttentionCall, payloads_O, others):
    """The attention output as of ``bidirectional.attend_everywhere``; None where rows are to be decoded.

    They are where that is chosen or takes the fewest operations, where anything but keys and values by themselves
    is coded, where keys are rotated, and where decoded rows are wanted for something else, too.

    Args:
        payloads_O, others: the other devices, the next one first and so on round the circle, and what they sent.
    """
    codec, kernels = strategy.codec, chosen()
    codes_only = type(codec) is GroupedVQ and strategy.coded_site(scope) == "kv" and not strategy.keeps(scope)
    if kernels == "jax" or call.rotary or not codes_only:
        return None
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    layout = scope.setting.layout
    codes_ORG = jax.vmap(lambda payload: codec.codes(payload, layout.rows))(payloads_O[0])
    codebook = scope.codecs[strategy.coded_site(scope)]["codebook"].astype(jnp.float32)
    theirs = coded(codebook, codes_ORG.reshape(-1, codec.groups), *k_TKd.shape[1:])
    form = code_table.best_form(theirs, *call.q_THd.shape[:2])
    seen, seen_theirs = None, None
    if not layout.valid_NR.all():
        valid_NR = jnp.asarray(layout.valid_NR)
        own_R = jnp.take(valid_NR, collectives.device_index(), axis=0)
        seen = jnp.concatenate([jnp.ones(layout.shared, bool), own_R])
        seen_theirs = jnp.take(valid_NR, others, axis=0).reshape(-1)
    mine = (call.q_THd, k_TKd, v_TKd, seen)
    if form == "merged":
        return finish(code_table.merged_attention(*mine, theirs, seen_theirs, call.scale))
    if form == "tables":
        by_tables = _tables_kernel if kernels == "pallas" else code_table.table_attention
        part = partial_attention(*mine, call.scale)
        return finish(merge(part, by_tables(call.q_THd, theirs, seen_theirs, call.scale)))
    return finish(_mixed_kernel(*mine, theirs, seen_theirs, call.scale)) if kernels == "pallas" else None


def _positions(visible: Visible, rows: int):
    """For kernels, which know positions: all at 0 but those that are hidden."""
    from thinwire.kernels.tiles import HIDDEN  # Pallas is an experiment of JAX: who does not ask for it needs none

    return jnp.zeros(rows, jnp.int32) if visible is None else jnp.where(visible, 0, HIDDEN)


def _tables_kernel(q_THd: Float[Array, "T H d"], theirs: Coded, visible_R: Visible, scale: float) -> Partial:
    from thinwire.kernels.code_table import table_attention

    position_R = _positions(visible_R, theirs.key_codes_KnS.shape[2])
    return Partial(*table_attention(q_THd, _reach(q_THd), *theirs, position_R, scale))


def _mixed_kernel(q_THd, k_SKd, v_SKd, visible_S: Visible, theirs: Coded, visible_R: Visible, scale: float) -> Partial:
    from thinwire.kernels.mixed import mixed_attention

    position_S = _positions(visible_S, len(k_SKd))
    position_R = _positions(visible_R, theirs.key_codes_KnS.shape[2])
    return Partial(*mixed_attention(q_THd, _reach(q_THd), k_SKd, v_SKd, position_S, *theirs, position_R, scale))


def _reach(q_THd):
    return jnp.zeros(len(q_THd), jnp.int32)
