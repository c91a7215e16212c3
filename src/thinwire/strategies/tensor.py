"""Tensor parallelism: heads and feed-forward columns are split, partial sums are made whole twice a layer.

A float codec makes it Megatron's scheme; any other codec makes the all-reduce a reduce-scatter of codes followed by
an all-gather of codes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from thinwire.codecs.base import Codec
from thinwire.codecs.floats import Float
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.strategies.base import Setting, Strategy, Traffic
from thinwire.strategies.heads import HeadPlan, deal
from thinwire.strategies.single import attend_here, with_positions
from thinwire.wire import collectives

SITES = ("attn_out", "mlp_out")


@dataclasses.dataclass(frozen=True)
class Tensor(Strategy):
    """Every device works on all tokens with its share of the weights. Any number of devices; heads need not divide."""

    codec: Codec = dataclasses.field(default=Float("float32"))
    name = "tensor"
    splits_tokens = False

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """The two sums of a layer."""
        del dims
        return SITES

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError for codecs that cannot carry sums, and where the codec does not fit the model."""
        if self.codec.predicts:
            raise ThinwireError(
                f"{self.codec.spec()} predicts keys and values, and tensor parallelism sends sums; use vq or int8."
            )
        if not self.codec.sends:
            raise ThinwireError(
                f"{self.codec.spec()} sends nothing, and tensor parallelism has sums to complete; use sequence or ring."
            )
        if self.codec.mixes_rows and dims.causal:
            raise ThinwireError(
                f"{self.codec.spec()} mixes neighbouring tokens, and the sums of a causal model must not hear of later "
                "ones; use sequence or ring."
            )
        super().check(dims)

    def attend(self, scope, call):
        """All tokens exactly, with this device's heads."""
        plan = self._plan(scope.setting)
        slots = None if plan.regular else jnp.asarray(collectives.of_this_device(plan.key_slot_NH))
        return attend_here(scope, call, slots)

    def reduce(self, scope, partial_TD, site):
        """A coded all-reduce."""
        with jax.named_scope("all_reduce"):
            return collectives.all_reduce(partial_TD, self.codec, scope.codecs.get(site, {}), site)

    def output(self, setting: Setting, x_TD):
        """This device's share of the rows, so that the head's work is split too."""
        own = jnp.asarray(collectives.of_this_device(setting.layout.positions_NR))
        return x_TD[jnp.minimum(own, setting.layout.tokens - 1)]

    def shard(self, params, axes, dims: ModelDims, devices: int):
        """Splits every array that has an axis of heads, key heads or hidden columns; the others are on every device."""
        plan = HeadPlan(dims.heads, dims.kv_heads, devices)
        dealt = {"heads": plan.query_NH, "kv_heads": plan.key_NK, "hidden": deal(dims.hidden, devices)}

        def split(x, names):
            axis = next((i for i, name in enumerate(names) if name in dealt), None)
            return (x, False) if axis is None else (_take_padded(x, dealt[names[axis]], axis), True)

        is_names = lambda leaf: isinstance(leaf, tuple)
        paired = jax.tree.map(lambda names, x: split(np.asarray(x), names), axes, params, is_leaf=is_names)
        pick = lambda i: jax.tree.map(lambda pair: pair[i], paired, is_leaf=is_names)
        return pick(0), pick(1)

    def traffic(self, setting: Setting) -> Traffic:
        """Two all-reduces, each N−1 parts out and N−1 copies of the summed part out."""
        layout, dims = setting.layout, setting.dims
        others = layout.devices - 1
        part = self.codec.payload_bytes(collectives.part_rows(layout.tokens, layout.devices), dims.width)
        steps = 2 * len(SITES) * others
        return Traffic((steps * part,) * layout.devices, (steps,) * layout.devices, 2 * len(SITES) * int(others > 0))

    def flops(self, setting: Setting):
        """Padded heads and columns are worked on as well."""
        dims, layout = setting.dims, setting.layout
        plan, count = self._plan(setting), layout.devices
        share = dataclasses.replace(
            dims,
            heads=plan.query_NH.shape[1],
            kv_heads=plan.key_NK.shape[1],
            hidden=deal(dims.hidden, count).shape[1],
        )
        pairs = layout.tokens * (layout.tokens + 1) // 2 if dims.causal else layout.tokens**2
        coding = 2 * len(SITES) * layout.tokens * self.codec.encode_flops(dims.width) if count > 1 else 0.0
        total = layout.tokens * (share.row_flops() + share.kv_flops()) + pairs * share.pair_flops() + coding
        return (total,) * count

    def bits_per_token(self, dims: ModelDims) -> float:
        """Each sum crosses twice: once as parts, once whole."""
        return 2 * super().bits_per_token(dims)

    def gather_cache(self, setting: Setting, cache):
        """All key heads, each from a device that has it."""
        heads = self._plan(setting).key_NK
        where = [np.argwhere(heads == head)[0] for head in range(setting.dims.kv_heads)]
        whole = {
            name: np.stack([np.asarray(values[n, :, :, slot]) for n, slot in where], axis=2)
            for name, values in cache.items()
        }
        return with_positions(whole, np.arange(setting.layout.tokens))

    @staticmethod
    def _plan(setting: Setting) -> HeadPlan:
        return HeadPlan(setting.dims.heads, setting.dims.kv_heads, setting.layout.devices)


def _take_padded(x, index_Nn, axis):
    """``x`` by device: entries ``index_Nn`` of ``axis``, zeros where the index is −1; a leading axis of devices."""
    taken = np.stack([np.take(x, np.maximum(index, 0), axis=axis) for index in index_Nn])
    shape = [1] * taken.ndim
    shape[0], shape[axis + 1] = index_Nn.shape
    return np.where((index_Nn >= 0).reshape(shape), taken, np.zeros((), x.dtype))
