"""Generation, one token at a time, on one device that keeps the other devices' rows as the codes in which they came."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from thinwire.attention.partial import finish, merge, partial_attention
from thinwire.codecs.base import Codec
from thinwire.layout import PAD
from thinwire.strategies.base import Setting, Strategy, Traffic
from thinwire.strategies.cached import attend_to_cache
from thinwire.strategies.sequence import Sequence


@dataclasses.dataclass(frozen=True)
class Recalled(Strategy):
    """New tokens attend to a cache of own rows and, layer by layer, to the others' as decoded anew for each token.

    It saves memory and costs time. The setting is that of the prompt. The cache of a layer is the own rows as in
    ``Cached``, which are emitted with the new token's, and beside them the payloads of the ``others``, as
    ``with_payloads`` names them.

    Attributes:
        codec: of the payloads.
        prompt: the strategy by which the prompt was read.
        last: the device that goes on; what is in its halo it holds exactly.
        others: the devices whose payloads are kept.
    """

    codec: Codec
    prompt: Sequence
    last: int
    others: tuple[int, ...]
    name = "recalled"

    def start(self, setting: Setting, inputs, shared):
        """What the codec predicts layer 0 from."""
        return self.prompt.start(setting, inputs, shared)

    def first_apart(self, dims):
        """As in the prompt's strategy."""
        return self.prompt.first_apart(dims)

    def attend(self, scope, call):
        """One token against the own rows, itself, and what is decoded."""
        part, scope.emitted["cache"] = attend_to_cache(scope.cache, call)
        q_THd = call.rotate(call.q_THd, call.position_T)
        positions_NR = scope.setting.layout.positions_NR
        halos_S2 = self.prompt.work(scope.setting).halos[self.last]
        held_NR = np.any([(positions_NR >= a) & (positions_NR < b) for a, b in halos_S2], axis=0)
        coded_NR = jnp.asarray((positions_NR < PAD) & ~held_NR)

        def from_device(part, given):
            other, payloads = given
            seen_RD = self.prompt.decode(scope, call, payloads, other)
            k_RKd, v_RKd = self.prompt.keys_values(scope, call, seen_RD, other)
            kept = seen_RD if self.codec.predicts else ()
            return merge(part, partial_attention(q_THd, k_RKd, v_RKd, coded_NR[other][None], call.scale)), kept

        others = jnp.asarray(self.others, jnp.int32)
        if self.others:
            part, seen_MRD = lax.scan(from_device, part, (others, _payloads(scope.cache)))
            if self.codec.predicts:
                below_NRD = scope.carried["below"]
                seen_MRD = jnp.asarray(seen_MRD, below_NRD.dtype)
                scope.carried = {**scope.carried, "below": below_NRD.at[others].set(seen_MRD)}
        return finish(part)

    def traffic(self, setting):
        """Nothing."""
        return Traffic((0,), (0,), 0)

    def flops(self, setting: Setting):
        """Of one token, the decoding of the whole prompt included."""
        dims, layout = setting.dims, setting.layout
        rows = sum(layout.lengths[n] for n in self.others)
        site = self.prompt.sites(dims)[0]
        decoding = self.codec.decode_flops(dims.site_dim(site)) + (0 if site == "kv" else dims.kv_flops())
        return (dims.row_flops() + dims.kv_flops() + layout.tokens * dims.pair_flops() + rows * decoding,)


def with_payloads(cache: Mapping[str, Any], payloads: list[dict[str, Any]]) -> dict[str, Any]:
    """A cache and, named by their places in the list, the arrays of payloads."""
    named = {f"payload.{i}.{name}": x for i, payload in enumerate(payloads) for name, x in payload.items()}
    return {**cache, **named}


def _payloads(cache: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for key, x in cache.items():
        if key.startswith("payload."):
            _, place, name = key.split(".")
            found.setdefault(int(place), {})[name] = x
    return [found[place] for place in sorted(found)]
