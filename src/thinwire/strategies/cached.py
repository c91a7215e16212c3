"""Generation, one token at a time, from a cache of keys and values that one device holds."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool

from thinwire.attention.call import AttentionCall
from thinwire.attention.partial import Partial, finish, partial_attention
from thinwire.codecs.base import Codec
from thinwire.codecs.floats import Float
from thinwire.layout import PAD
from thinwire.strategies.base import Strategy, Traffic


@dataclasses.dataclass(frozen=True)
class Cached(Strategy):
    """New tokens attend to a cache and to themselves; nothing is sent.

    The cache of a layer is ``k, v (C, K, d)`` with keys rotated, and ``position (C,)``, PAD where a row is empty. A
    token is written into the first empty row; the updated cache is emitted.
    """

    codec: Codec = dataclasses.field(default=Float("float32"))
    name = "cached"

    def attend(self, scope, call):
        """One token against everything cached, and itself."""
        part, scope.emitted["cache"] = attend_to_cache(scope.cache, call)
        return finish(part)

    def traffic(self, setting):
        """Nothing."""
        return Traffic((0,), (0,), 0)

    def flops(self, setting):
        """Of one token against the whole context."""
        dims = setting.dims
        return (dims.row_flops() + dims.kv_flops() + setting.layout.tokens * dims.pair_flops(),)


def attend_to_cache(
    cache: Mapping[str, Array], call: AttentionCall, keep: bool | Bool[Array, ""] = True
) -> tuple[Partial, dict[str, Array]]:
    """One token against the rows of a cache, itself among them if ``keep``; and the cache with it."""
    position_C, position_T = cache["position"], call.position_T
    row = jnp.where(keep, jnp.argmax(position_C == PAD), len(position_C))  # beyond the end nothing is written
    put = lambda rows, new: rows.at[row].set(new[0].astype(rows.dtype), mode="drop")
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_CKd, v_CKd = put(cache["k"], call.rotate(k_TKd, position_T)), put(cache["v"], v_TKd)
    position_C = put(position_C, position_T)
    visible_TC = position_C[None] <= position_T[:, None]
    part = partial_attention(call.rotate(call.q_THd, position_T), k_CKd, v_CKd, visible_TC, call.scale)
    return part, {"k": k_CKd, "v": v_CKd, "position": position_C}
