"""The single device: everything is here. The reference that all else is measured against."""

import dataclasses

import numpy as np

from thinwire.attention.call import AttentionCall
from thinwire.attention.context import exact_attention, join_parts, tiles
from thinwire.codecs.base import Codec
from thinwire.codecs.floats import Float
from thinwire.errors import ThinwireError
from thinwire.strategies.base import LayerScope, Setting, Strategy, Traffic


@dataclasses.dataclass(frozen=True)
class Single(Strategy):
    """One device runs the model; nothing is sent."""

    codec: Codec = dataclasses.field(default=Float("float32"))
    name = "single"

    def layout(self, dims, tokens, devices, split):
        """All tokens on the one device."""
        if devices != 1:
            raise ThinwireError(f"The strategy 'single' runs on 1 device and was given {devices}; use --devices 1.")
        return super().layout(dims, tokens, devices, None)

    def attend(self, scope, call):
        """All tokens, exactly."""
        return attend_here(scope, call)

    def gather_cache(self, setting, cache):
        """The cache as it is."""
        return with_positions(super().gather_cache(setting, cache), np.arange(setting.layout.tokens))

    def traffic(self, setting):
        """Nothing."""
        return Traffic((0,), (0,), 0)

    def flops(self, setting: Setting):
        """The whole model on one device."""
        dims, layout = setting.dims, setting.layout
        rows = layout.tokens * (dims.row_flops() + dims.kv_flops())
        return (rows + dims.pair_flops() * layout.visible_pairs(dims.causal)[0],)

    def sites_coded(self) -> bool:
        """Nothing is sent, so no codec is named."""
        return False


def attend_here(scope: LayerScope, call: AttentionCall, kv_head_of=None):
    """Attention among rows that are all on this device; ``kv_head_of`` picks a key head for each query head."""
    layout = scope.setting.layout
    whole = dataclasses.replace(layout, shared=0, segments=(((0, layout.tokens),),))
    k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
    k_TKd = call.rotate(k_TKd, call.position_T)
    if scope.setting.keep_cache:
        scope.emitted["cache"] = {"k": k_TKd, "v": v_TKd}
    if kv_head_of is not None:
        k_TKd, v_TKd = k_TKd[:, kv_head_of], v_TKd[:, kv_head_of]
    q_THd = call.rotate(call.q_THd, call.position_T)
    parts = exact_attention(q_THd, k_TKd, v_TKd, call.position_T, tiles(whole), call.scale, call.causal, padded=False)
    return join_parts(parts, *q_THd.shape[1:])


def with_positions(cache: dict, position_C: np.ndarray) -> dict:
    """A cache (L, C, ...) with the position of each of its rows, the same in every layer."""
    layers = cache["k"].shape[0]
    return {**cache, "position": np.tile(position_C.astype(np.int32), (layers, 1))}
