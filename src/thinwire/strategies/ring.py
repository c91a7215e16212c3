"""Ring attention over coded payloads: they travel from neighbour to neighbour while the last ones are attended to."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from thinwire.attention.context import join_parts
from thinwire.errors import ThinwireError
from thinwire.layout import TokenLayout
from thinwire.strategies.base import LayerScope, Setting, Traffic
from thinwire.strategies.sequence import Sequence
from thinwire.wire import collectives, ledger


@dataclasses.dataclass(frozen=True)
class Ring(Sequence):
    """As ``Sequence``, but N−1 hops of one neighbour's payload instead of one gather, merged by log-sum-exp.

    Options beyond those of ``Sequence``:
        chunks: pieces a payload is cut into, so that one is on the wire while another is attended to.
    """

    chunks: int = 1
    name = "ring"

    def __post_init__(self):
        """Checks the options."""
        super().__post_init__()
        if self.chunks < 1:
            raise ThinwireError(f"chunks={self.chunks} is below 1.")

    def attend(self, scope: LayerScope, call):
        """Own and shared tokens while the first payload is on its way, then each payload as it comes."""
        layout, count = scope.setting.layout, scope.setting.layout.devices
        site = self.sites(scope.setting.dims)[0]
        own_rows = call.sites[site][layout.shared :]
        params = scope.codecs.get(site, {})
        with jax.named_scope("encode"):
            payloads = [self.codec.encode(params, own_rows[a:b]) for a, b in self._cuts(layout)]
        me = collectives.device_index()
        shift = lambda payloads: [collectives.ring_shift(p, site) for p in payloads]

        # Each hop sends on what has come before it attends to it, so that the two can overlap.
        incoming = shift(payloads) if count > 1 else payloads
        remote, parts, shared_out = self.begin(scope, call)

        def hop(carry, step):
            incoming, parts = carry
            onward = shift(incoming)
            parts, kv = self._absorb(scope, call, remote, parts, incoming, (me - step) % count)
            return (onward, parts), kv

        kept = []
        if count > 2:
            with ledger.repeated(count - 2):
                (incoming, parts), kv = lax.scan(hop, (incoming, parts), jnp.arange(1, count - 1))
            kept.append(kv)
        if count > 1:
            parts, kv = self._absorb(scope, call, remote, parts, incoming, (me - count + 1) % count)
            kept.append(jax.tree.map(lambda x: x[None], kv))
        if scope.setting.keep_cache:
            self._emit(scope, call, kept, me, count)
        return jnp.concatenate([shared_out, join_parts(parts, *call.q_THd.shape[1:])])

    def _absorb(self, scope, call, remote, parts, payloads, other):
        """Attends to a payload that has come; hands out its keys and values if a cache is kept."""
        if scope.setting.keep_cache:
            kv = self._decode_all(scope, call, payloads, other)
            return remote.add(parts, other, lambda: kv), kv
        return remote.add(parts, other, lambda: self._decode_all(scope, call, payloads, other)), ()

    def _decode_all(self, scope, call, payloads, other):
        cuts = self._cuts(scope.setting.layout)
        pieces = [self.decode(scope, call, p, other, rows) for p, rows in zip(payloads, cuts, strict=True)]
        k, v = zip(*pieces, strict=True)
        return jnp.concatenate(k), jnp.concatenate(v)

    def _emit(self, scope, call, kept, me, count):
        layout = scope.setting.layout
        k_TKd, _ = call.keys_values("kv", call.sites["kv"])
        own = jnp.zeros((1, layout.rows, *k_TKd.shape[1:]), k_TKd.dtype)
        by_hop = [jnp.concatenate([own, *arrays]) for arrays in zip(*kept, strict=True)] if kept else [own, own]
        order = (me - jnp.arange(count)) % count  # device n's rows came at hop me − n
        self.emit_cache(scope, call, by_hop[0][order], by_hop[1][order])

    def _cuts(self, layout: TokenLayout) -> list[tuple[int, int]]:
        size = -(-layout.rows // min(self.chunks, layout.rows))
        return [(a, min(a + size, layout.rows)) for a in range(0, layout.rows, size)]

    def traffic(self, setting: Setting) -> Traffic:
        """Every device sends N−1 payloads to its neighbour, each in ``chunks`` messages."""
        layout = setting.layout
        hops, cuts = layout.devices - 1, self._cuts(layout)
        dim = setting.dims.site_dim(self.sites(setting.dims)[0])
        sent = hops * sum(self.codec.payload_bytes(stop - start, dim) for start, stop in cuts)
        return Traffic((sent,) * layout.devices, (hops * len(cuts),) * layout.devices, hops)
