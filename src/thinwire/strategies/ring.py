"""Ring attention over coded payloads: they travel from neighbour to neighbour while the last ones are attended to."""

import dataclasses
import functools

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
        if self.alone:
            return super().attend(scope, call)
        count, me = scope.setting.layout.devices, collectives.device_index()
        own, mine = self.coded(scope, call)
        shift = lambda payloads: [collectives.start_ring_shift(one, self.coded_site(scope)) for one in payloads]

        # Each hop sends on what has come before it attends to it, so that the two overlap.
        coming = shift(own) if count > 1 else []
        call = functools.reduce(lambda call, one: self.meanwhile(one, call), coming, call)
        remote, parts, shared_out = self.begin(scope, call)
        incoming = [one.wait(parts) for one in coming]
        kept = [jax.tree.map(lambda x: x[None][:0], mine)]

        def hop(carry, step):
            incoming, parts = carry
            onward = shift(incoming)
            incoming = functools.reduce(lambda payloads, one: one.meanwhile(payloads), onward, incoming)
            parts, seen = self.absorb(scope, call, remote, parts, incoming, (me - step) % count)
            return ([one.wait(parts) for one in onward], parts), seen

        if count > 2:
            with ledger.repeated(count - 2):
                (incoming, parts), seen = lax.scan(hop, (incoming, parts), jnp.arange(1, count - 1))
            kept.append(seen)
        if count > 1:
            parts, seen = self.absorb(scope, call, remote, parts, incoming, (me - count + 1) % count)
            kept.append(jax.tree.map(lambda x: x[None], seen))
        by_hop = jax.tree.map(lambda *hops: jnp.concatenate(hops), *kept)
        self.hand_on(scope, call, self.in_order(scope, mine, by_hop, step=-1))
        return jnp.concatenate([shared_out, join_parts(parts, *call.q_THd.shape[1:])])

    def attends_at_once(self, setting: Setting) -> bool:
        """Never: a ring attends to each device's rows as they come."""
        return False

    def cuts(self, layout: TokenLayout) -> list[tuple[int, int]]:
        """Chunks of about equal size."""
        cut: list[tuple[int, int]] = []
        for start, stop in super().cuts(layout):
            size = -(-(stop - start) // min(self.chunks, stop - start))
            cut += [(a, min(a + size, stop)) for a in range(start, stop, size)]
        return cut

    def traffic(self, setting: Setting) -> Traffic:
        """Every device sends N−1 payloads to its neighbour, each in ``chunks`` messages."""
        hops = setting.layout.devices - 1
        sent, messages = self.payloads(setting)
        every = lambda count: (hops * count,) * setting.layout.devices
        return Traffic(every(sent), every(messages), hops if messages else 0)
