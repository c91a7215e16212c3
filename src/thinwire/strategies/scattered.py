"""Generation, one token at a time, on all devices, each from the exact keys and values of its own tokens."""

import dataclasses
import functools

import jax
from jaxtyping import Array

from thinwire.attention.partial import Partial, finish, merge
from thinwire.codecs.base import Codec
from thinwire.codecs.floats import Float
from thinwire.layout import TokenLayout
from thinwire.strategies.base import Setting, Strategy, Traffic
from thinwire.strategies.cached import attend_to_cache
from thinwire.wire import collectives

STATISTIC_BYTES = 8  # the largest score and the sum of a head, float32


@dataclasses.dataclass(frozen=True)
class Scattered(Strategy):
    """Every device attends to its own part of the cache, and the partial softmaxes are gathered and merged, exactly.

    All devices run all else on the same hidden state; they merge the same parts in the same order, so it stays the
    same, bit for bit. The cache of a layer is as in ``Cached``, on each device the rows of its own tokens. New tokens
    are dealt in turn: everybody has their keys and values anyway, and so memory and attention grow evenly.

    ``codec``, a float, is the form of the unnormalised outputs; the two statistics of a head are float32 in any case,
    since an error in a score would be an error of its exponential.
    """

    codec: Codec = dataclasses.field(default=Float("float32"))
    name = "scattered"

    def layout(self, dims, tokens, devices, split):
        """Every device works on the new token."""
        del dims, split
        return TokenLayout(tokens, tokens, (((tokens, tokens),),) * devices)

    def attend(self, scope, call):
        """One token against everything that all devices have cached, and itself."""
        turn = call.position_T[0] % collectives.device_count()
        part, scope.emitted["cache"] = attend_to_cache(scope.cache, call, turn == collectives.device_index())
        H, d = part.out_THd.shape[1:]
        # The own part as it was sent, too: all devices must merge the same bits.
        payload = self.codec.encode({}, part.out_THd.reshape(-1, H * d))
        gathered_N = collectives.all_gather({**payload, "top": part.top_TH, "sum": part.sum_TH}, "attention")

        def part_of(n: int) -> Partial:
            one: dict[str, Array] = jax.tree.map(lambda x: x[n], gathered_N)
            return Partial(self.codec.decode({}, one, 1, H * d).reshape(1, H, d), one["top"], one["sum"])

        return finish(functools.reduce(merge, map(part_of, range(collectives.device_count()))))

    def traffic(self, setting: Setting) -> Traffic:
        """Every device sends the outputs and statistics of all heads to N−1 others: H·(d+2) floats."""
        dims, others = setting.dims, setting.layout.devices - 1
        part = self.codec.payload_bytes(1, dims.heads * dims.head) + dims.heads * STATISTIC_BYTES
        count = setting.layout.devices
        return Traffic((others * part,) * count, (others,) * count, int(others > 0))

    def flops(self, setting: Setting) -> tuple[float, ...]:
        """Of one token on each device; attention to the cache, which it does not know, apart."""
        dims = setting.dims
        return (dims.row_flops() + dims.kv_flops(),) * setting.layout.devices
