"""Generation, one token at a time, from a cache of keys and values that one device holds."""

import dataclasses

import jax.numpy as jnp

from thinwire.attention.partial import finish, partial_attention
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
        cache = scope.cache
        row = jnp.argmax(cache["position"] == PAD)
        k_CKd, v_CKd, position_C = cache["k"], cache["v"], cache["position"]
        position_T = call.position_T
        k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
        k_CKd = k_CKd.at[row].set(call.rotate(k_TKd, position_T)[0].astype(k_CKd.dtype))
        v_CKd = v_CKd.at[row].set(v_TKd[0].astype(v_CKd.dtype))
        position_C = position_C.at[row].set(position_T[0])
        scope.emitted["cache"] = {"k": k_CKd, "v": v_CKd, "position": position_C}
        q_THd = call.rotate(call.q_THd, position_T)
        visible = position_C[None] <= position_T[:, None]
        return finish(partial_attention(q_THd, k_CKd, v_CKd, visible, call.scale))

    def traffic(self, setting):
        """Nothing."""
        return Traffic((0,), (0,), 0)

    def flops(self, setting):
        """Of one token against the whole context."""
        dims = setting.dims
        return (dims.row_flops() + dims.kv_flops() + setting.layout.tokens * dims.pair_flops(),)
