"""Sequence parallelism: each device keeps its own tokens exact and sees the others' through a codec.

A float codec makes it Voltage (full-precision all-gather), int8 the baseline that reviewers ask for, grouped VQ makes
it ASTRA's mixed-precision attention. One all-gather of one payload a layer.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool

from thinwire.attention.call import AttentionCall
from thinwire.attention.context import RemoteAttention, exact_attention, join_parts, keys_of
from thinwire.branches import all_virtual, or_zeros
from thinwire.codecs.base import Codec, CodecParams
from thinwire.codecs.floats import Float
from thinwire.codecs.predictive import Predictive
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.layout import LAYOUTS, TokenLayout
from thinwire.strategies.base import LayerScope, Setting, Strategy, Traffic
from thinwire.strategies.bidirectional import attend_everywhere
from thinwire.strategies.consecutive import MOST_DEVICES, attend_consecutively, consecutive
from thinwire.strategies.emitting import emit_cache
from thinwire.strategies.single import with_positions
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire import collectives

SITES = ("kv", "x", "norm")
# Half of what coding costs in quality falls on the first tokens of a device; this many neighbours take much of it away.
HALO = 32
HALO_PART = 8
FINE = 4  # bits a value: codes of so many need no such help


@dataclasses.dataclass(frozen=True)
class Sequence(Strategy):
    """Tokens are split over devices, weights are on every device.

    Options:
        site: where context is coded: ``kv`` (keys before rotation, and values), ``x`` (the layer input, receivers
            project it again), ``norm`` (the normalised input). Default: the one that costs fewest bits, kv on a tie.
        sink: 1 keeps token 0 exact on every device by recomputing it, 0 does not. Default: 1 for lossy codecs of
            causal models.
        class_tokens: ``each`` gives every device a class token of its own, which sees that device's tokens exactly
            and is seen by no other device; the results are averaged. ``one`` keeps it an ordinary token of device 0.
            Default: ``each`` for lossy codecs of models with a class token.
        halo: tokens before its own that a device of a causal model computes too, so that its first tokens see their
            neighbours exactly; costs work, but no bits. Default: HALO, or a part of the own tokens (one
            in HALO_PART) where that is less; 0 for codecs of FINE bits a value or more.
        layout: ``contiguous`` or ``zigzag`` (balances causal attention).
    """

    codec: Codec = dataclasses.field(default=Float("float32"))
    site: str = "auto"
    sink: int = -1
    class_tokens: str = "auto"
    halo: int = -1
    layout_name: str = "contiguous"
    name = "sequence"

    def __post_init__(self):
        """Checks the options."""
        if self.site not in (*SITES, "auto"):
            raise ThinwireError(f"site={self.site} is not a site of {self.name}; use one of {', '.join(SITES)}.")
        if self.sink not in (-1, 0, 1):
            raise ThinwireError(f"sink={self.sink} is neither 0 nor 1.")
        if self.class_tokens not in ("auto", "each", "one"):
            raise ThinwireError(f"class_tokens={self.class_tokens} is neither each nor one.")
        if self.halo < -1:
            raise ThinwireError(f"halo={self.halo} is below 0.")
        if self.layout_name not in LAYOUTS:
            raise ThinwireError(f"layout={self.layout_name} is unknown; use one of {', '.join(LAYOUTS)}.")

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """The one site that is coded."""
        if self.site != "auto":
            return (self.site,)
        if self.codec.predicts:
            return ("kv",)
        return (min(("kv", "x"), key=lambda site: self.codec.bits_per_token(dims.site_dim(site))),)

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError where the codec does not fit the model or the site."""
        super().check(dims)
        if self.codec.predicts and self.sites(dims) != ("kv",):
            raise ThinwireError(f"{self.codec.spec()} predicts keys and values; leave site={self.site} out.")
        if self.codec.knows_tokens and not dims.inputs_known:
            raise ThinwireError(
                f"{self.codec.spec()} predicts from tokens, which this model's other devices do not know; add rank=0."
            )
        if self.sink == 1 and not dims.causal:
            raise ThinwireError("sink=1 recomputes token 0, which only a causal model allows; use sink=0.")
        if self.halo > 0 and not dims.causal:
            raise ThinwireError(f"halo={self.halo} is for causal models, whose tokens look back only; leave it out.")
        if self.class_tokens != "auto" and not dims.class_token:
            raise ThinwireError(f"class_tokens={self.class_tokens} is for models with a class token; leave it out.")

    def layout(self, dims, tokens, devices, split):
        """Contiguous or zigzag, in any ratio; token 0 on every device if it is a sink, or a class token for each."""
        if dims.class_token:
            shared = int(self.lossy if self.class_tokens == "auto" else self.class_tokens == "each")
        else:
            shared = int(dims.causal and self.lossy) if self.sink < 0 else self.sink
        return LAYOUTS[self.layout_name](tokens, devices, split, shared if devices > 1 else 0)

    def join(self, setting: Setting, values_NR):
        """The sequence; class tokens that each device has for itself are averaged."""
        joined = super().join(setting, values_NR)
        shared = setting.layout.shared
        if shared and not setting.dims.causal:
            joined[:shared] = values_NR[:, :shared].mean(axis=0)
        return joined

    def positions(self, setting: Setting):
        """The shared tokens, then the own ones, led in by their halo."""
        work, me = self.work(setting), collectives.device_index()
        position_W = jnp.asarray(collectives.of_this_device(work.positions_NW))
        position_T = jnp.concatenate([jnp.arange(setting.layout.shared, dtype=position_W.dtype), position_W])
        if isinstance(me, int) and self.attends_at_once(setting) and not setting.keep_cache:
            return position_T[: work.worked_rows(me)]
        return position_T

    def output(self, setting: Setting, x_TD):
        """Without the halo."""
        return self.work(setting).own(x_TD)

    def each_row(self, scope: LayerScope, function, *rows_T):
        """Without the rows at the end of the devices that have fewer tokens than others."""
        return self.work(scope.setting).each_row(function, *rows_T)

    def work(self, setting: Setting) -> WorkRows:
        """The rows that a device works on behind the shared ones."""
        layout, halo = setting.layout, self.halo
        if halo < 0:
            site = self.sites(setting.dims)[0]
            coarse = self.codec.bits_per_token(setting.dims.site_dim(site)) < FINE * setting.dims.site_dim(site)
            halo = min(HALO, -(-layout.rows // HALO_PART)) if setting.dims.causal and coarse else 0
        return WorkRows(layout, halo if layout.devices > 1 else 0)

    @property
    def lossy(self) -> bool:
        """Whether rows may be seen otherwise than they are."""
        return not isinstance(self.codec, Float)

    def attend(self, scope: LayerScope, call: AttentionCall):
        """Shared and own tokens exactly, the other devices' as decoded."""
        if self.alone:
            _, parts, shared_out = self.begin(scope, call)
            if scope.setting.keep_cache:
                emit_cache(self, scope, call, {"payloads": []})
            return jnp.concatenate([shared_out, join_parts(parts, *call.q_THd.shape[1:])])
        own, mine = self.coded(scope, call)
        gather = collectives.start_all_gather_parts(own, self.coded_site(scope), self.looks(scope.setting))
        if not call.causal:
            return attend_everywhere(self, scope, self.meanwhile(gather, call), mine, gather)
        if self.attends_at_once(scope.setting) and not all_virtual() and self.here(scope, 0) is None:
            return attend_consecutively(self, scope, call, mine, own, gather)
        remote, parts, shared_out = self.begin(scope, call)
        # Hosts of a causal model run ahead of each other, so codes have come already: one call is cheaper than two.
        others, payloads_O = self.others(scope, gather.wait(call.q_THd))

        def from_device(parts, given):
            other, payloads = given
            return self.absorb(scope, call, remote, parts, payloads, other)

        parts, theirs_O = lax.scan(from_device, parts, (others, payloads_O))
        self.hand_on(scope, call, self.in_order(scope, mine, theirs_O))
        return jnp.concatenate([shared_out, join_parts(parts, *call.q_THd.shape[1:])])

    def attends_at_once(self, setting: Setting) -> bool:
        """Whether devices of a causal model attend to all that they see at once; virtual ones never do.

        On CPUs only. Elsewhere own rows are attended to while payloads travel.
        """
        few = setting.layout.devices <= MOST_DEVICES
        fits = few and consecutive(setting.layout) and jax.default_backend() == "cpu"
        return fits and setting.dims.causal and not self.alone

    def looks(self, setting: Setting) -> Bool[np.ndarray, "N N"]:
        """Whether the first device needs the second one's payloads.

        A cache needs no more of them: the device of the last token goes on from it, which sees all tokens anyway.
        """
        return self.work(setting).looks(setting.dims.causal)

    def meanwhile(self, started: collectives.AsyncCollective, call: AttentionCall) -> AttentionCall:
        """The same with queries that are computed while payloads travel."""
        return dataclasses.replace(call, sites={**call.sites, "norm": started.meanwhile(call.sites["norm"])})

    def others(self, scope: LayerScope, gathered_N):
        """The other devices, the next one first and so on round the circle, and their payloads."""
        count = scope.setting.layout.devices
        others = (collectives.device_index() + jnp.arange(1, count)) % count
        return others, jax.tree.map(lambda x_N: jnp.take(x_N, others, axis=0, mode="clip"), gathered_N)

    def coded(self, scope: LayerScope, call: AttentionCall):
        """The own payloads, and what is wanted of them later; in the same branch, so that both predict but once."""

        def both():
            me = collectives.device_index()
            mine = self.foreseen(scope, me)
            own = self.encode(mine, call)
            return own, self.kept(scope, own, self.decode(mine, call, own, me) if self.keeps(scope) else None)

        return self.if_heard(scope, both)

    def in_order(self, scope: LayerScope, mine, theirs_O, step: int = 1):
        """What is wanted of this device and of the others, step by step round the circle, put in order of devices."""
        count, me = scope.setting.layout.devices, collectives.device_index()
        order = step * (jnp.arange(count) - me) % count
        join = lambda own, theirs_OX: jnp.take(jnp.concatenate([own[None], theirs_OX]), order, axis=0, mode="clip")
        return jax.tree.map(join, mine, theirs_O)

    def absorb(self, scope: LayerScope, call: AttentionCall, remote: RemoteAttention, parts, payloads, other):
        """Attends to device ``other``'s payloads; also returns what somebody wants of them later (``kept``)."""
        seen = lambda: self.decode(self.foreseen(scope, other), call, payloads, other)
        here_R = self.here(scope, other)
        if not self.keeps(scope):
            parts = remote.add(parts, other, lambda: self.keys_values(scope, call, seen(), other), here_R)
            return parts, self.kept(scope, payloads, None)
        seen_RD = remote.if_needed(other, seen)
        parts = remote.add(parts, other, lambda: self.keys_values(scope, call, seen_RD, other), here_R)
        return parts, self.kept(scope, payloads, seen_RD)

    def here(self, scope: LayerScope, other) -> Bool[Array, " R"] | None:
        """Which of device ``other``'s rows may be attended to; None: all, as nothing gets lost."""
        del scope, other
        return None

    @property
    def alone(self) -> bool:
        """Whether devices see nothing of each other but the shared tokens: rows are neither sent nor predicted."""
        return not (self.codec.sends or self.codec.predicts)

    def keeps(self, scope: LayerScope) -> bool:
        """Whether rows as decoded are wanted beyond this layer's attention."""
        return self.codec.predicts or scope.setting.keep_cache == "seen"

    def kept(self, scope: LayerScope, payloads, seen_RD) -> dict[str, Any]:
        """What is wanted later of one device's payloads: its rows as decoded, the payloads themselves."""
        rows = {"seen": seen_RD} if self.keeps(scope) else {}
        return rows | ({"payloads": payloads} if scope.setting.keep_cache == "codes" else {})

    def hand_on(self, scope: LayerScope, call: AttentionCall, kept_N: Mapping[str, Any]) -> None:
        """Carries every device's rows as decoded to the next layer, and emits a cache, where that is wanted."""
        if self.codec.predicts:
            scope.carried = {**scope.carried, "below": kept_N["seen"].astype(scope.carried["below"].dtype)}
        if scope.setting.keep_cache:
            emit_cache(self, scope, call, kept_N)

    def begin(self, scope: LayerScope, call: AttentionCall):
        """What needs no communication: attention to the own and the shared tokens.

        Returns what adds remote rows, the parts to add them to, and the outputs of rows that are whole already: the
        shared ones of a causal model, which come first. Other models' shared rows are the device's own class token.
        """
        layout, S = scope.setting.layout, scope.setting.layout.shared
        position_T = call.position_T
        k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
        k_TKd, q_THd = call.rotate(k_TKd, position_T), call.rotate(call.q_THd, position_T)
        me = collectives.device_index()
        queries = self.work(scope.setting).queries(call.causal)
        ask = S if call.causal else 0  # a causal model's shared rows ask for nothing of other devices
        mine = (q_THd[ask:], k_TKd[ask:], v_TKd[ask:], position_T[ask:])
        remote = RemoteAttention(layout, queries, mine[0], mine[3], me, call.scale, call.causal)
        counts_N = self.work(scope.setting).counts_N - ask
        within = (int(counts_N.min()), jnp.asarray(counts_N)[me])
        parts = exact_attention(*mine, queries.tiles, call.scale, call.causal, not layout.valid_NR.all(), within)
        if not call.causal:
            return remote, parts, join_parts([], *q_THd.shape[1:])
        parts = remote.with_shared(parts, k_TKd[:S], v_TKd[:S])
        first = ((0, S),) if S else ()
        shared = exact_attention(q_THd[:S], k_TKd[:S], v_TKd[:S], position_T[:S], first, call.scale, call.causal)
        return remote, parts, join_parts(shared, *q_THd.shape[1:])

    def coded_site(self, scope: LayerScope) -> str:
        """The site that is coded."""
        return self.sites(scope.setting.dims)[0]

    def start(self, setting: Setting, inputs, shared: CodecParams) -> Any:
        """For codecs that predict: what the tokens tell of every device's rows, and room for the layer below's."""
        if not self.codec.predicts:
            return ()
        layout = setting.layout
        dim = setting.dims.site_dim(self.sites(setting.dims)[0])
        dtype = shared["project"].dtype if self.codec.knows_tokens else jnp.float32  # in which they are multiplied
        carried = {"below": jnp.zeros((layout.devices, layout.rows, dim), dtype)}
        if self.codec.knows_tokens:
            heard_NR = layout.valid_NR & self.work(setting).heard(setting.dims.causal)[:, None]
            last = int(layout.positions_NR[heard_NR].max(initial=0))  # nobody predicts the rows behind it
            features_TF = self.codec.token_features(shared, inputs(jnp.arange(last + 1)))
            carried["features"] = features_TF.astype(dtype)[np.minimum(layout.positions_NR, last)]
        return carried

    def first_apart(self, dims: ModelDims) -> bool:
        """Layer 0 is recomputed by codecs that know the tokens, where every device knows what enters it."""
        return self.codec.recomputes and dims.inputs_known

    def cuts(self, layout: TokenLayout) -> list[tuple[int, int]]:
        """The rows (start, stop) of each payload of a device: one, or one for each stretch of consecutive tokens.

        A codec that mixes rows of an early and a late stretch would tell of tokens that a receiver must not see yet.
        """
        return list(layout.segment_rows) if self.codec.mixes_rows else [(0, layout.rows)]

    def encode(self, scope: LayerScope, call: AttentionCall):
        """The payloads of this device's own rows; none where nothing is sent, as in a layer 0 that all recompute."""
        return self.own_payloads(scope, call) if self.codec.sends and not scope.first else []

    def if_heard(self, scope: LayerScope, function):
        """``function()``; zeros on a device whose rows nobody sees."""
        heard_N = self.work(scope.setting).heard(scope.setting.dims.causal)
        if heard_N.all():
            return function()
        return or_zeros(collectives.of_this_device(heard_N), function)

    def own_payloads(self, scope: LayerScope, call: AttentionCall):
        """The payloads of this device's own rows."""
        layout = scope.setting.layout
        own_RD = self.work(scope.setting).own(call.sites[self.coded_site(scope)])[layout.shared :]
        params, me = scope.codecs.get(self.coded_site(scope), {}), collectives.device_index()
        with jax.named_scope("encode"):
            return [
                self.codec.encode(params, own_RD[start:stop], self._known(scope, me, start, stop))
                for start, stop in self.cuts(layout)
            ]

    def decode(self, scope: LayerScope, call: AttentionCall, payloads, other):
        """Device ``other``'s rows at the site, as its payloads give them; float32."""
        setting, site = scope.setting, self.coded_site(scope)
        if scope.first and scope.inputs is not None:
            x_RD = scope.inputs(jnp.asarray(setting.layout.positions_NR)[other])
            return jnp.concatenate(call.keys_values("x", x_RD), axis=1).reshape(len(x_RD), -1).astype(jnp.float32)
        params, dim = scope.codecs.get(site, {}), setting.dims.site_dim(site)
        cuts = self.cuts(setting.layout)
        with jax.named_scope("decode"):
            pieces = [
                self.codec.decode(params, payload, stop - start, dim, self._known(scope, other, start, stop))
                for payload, (start, stop) in zip(payloads or [{}] * len(cuts), cuts, strict=True)
            ]
            return jnp.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def keys_values(self, scope: LayerScope, call: AttentionCall, seen_RD, other):
        """Keys (rotated) and values of device ``other``'s rows, from what is seen of them at the site."""
        k_RKd, v_RKd = call.keys_values(self.coded_site(scope), seen_RD.astype(call.q_THd.dtype))
        return call.rotate(k_RKd, jnp.asarray(scope.setting.layout.positions_NR)[other]), v_RKd

    def _known(self, scope: LayerScope, device, start: int, stop: int):
        """What both ends know of a device's rows beforehand."""
        known_NRX = dict(scope.carried) if self.codec.predicts else {}
        if self.codec.mixes_rows:
            known_NRX["valid"] = jnp.asarray(scope.setting.layout.valid_NR)
        known = {name: values_NRX[device, start:stop] for name, values_NRX in known_NRX.items()}
        return known if scope.predicted is None else {**known, "predicted": scope.predicted[start:stop]}

    def foreseen(self, scope: LayerScope, device) -> LayerScope:
        """The layer with what is predicted of a device's rows, computed once, for those that hold tokens."""
        if not isinstance(self.codec, Predictive) or scope.first:
            return scope
        rows = keys_of(scope.setting.layout, (0, scope.setting.layout.rows))
        params, known = scope.codecs.get(self.coded_site(scope), {}), self._known(scope, device, 0, rows.most)
        names = sorted(known)
        codec = self.codec
        predict = lambda *values: codec.predict(params, dict(zip(names, values, strict=True)))
        with jax.named_scope("decode"):
            predicted_RD = rows.each(predict, *(known[name] for name in names), device=device)
        return dataclasses.replace(scope, predicted=predicted_RD)

    def gather_cache(self, setting, cache):
        """The mixed cache of the device that holds the last token."""
        layout = setting.layout
        shared = np.arange(layout.shared)
        seen_NR = self.work(setting).positions_NW[layout.places[0][-1]] if self.alone else layout.positions_NR
        position_C = np.concatenate([shared, seen_NR.reshape(-1)])
        return with_positions(super().gather_cache(setting, cache), position_C)

    def traffic(self, setting: Setting) -> Traffic:
        """Every device sends its payloads, of the padded number of rows, to N−1 others, or to those that look."""
        devices = setting.layout.devices
        looks_NN = self.looks(setting)
        receivers = looks_NN.sum(axis=0).tolist() if setting.streams else [devices - 1] * devices
        sent, payloads = self.payloads(setting)
        messages = tuple(count * (payloads > 0) for count in receivers)
        back_only = setting.streams and not np.triu(looks_NN).any()
        return Traffic(tuple(sent * count for count in receivers), messages, int(sum(messages) > 0), back_only)

    def payloads(self, setting: Setting) -> tuple[int, int]:
        """Bytes of a device's payloads together, and how many there are."""
        cuts = self.cuts(setting.layout) if self.codec.sends else []
        dim = setting.dims.site_dim(self.sites(setting.dims)[0])
        return sum(self.codec.payload_bytes(stop - start, dim) for start, stop in cuts), len(cuts)

    def flops(self, setting: Setting) -> tuple[float, ...]:
        """Own rows through all matrices; remote rows through the key and value projections unless kv is coded."""
        dims, layout = setting.dims, setting.layout
        site = self.sites(dims)[0]
        coding = self.codec.own_flops(dims.site_dim(site)) if layout.devices > 1 else 0.0
        totals = []
        work = self.work(setting)
        coded_N = np.asarray(layout.lengths) * work.heard(dims.causal)
        for n, pairs in enumerate(layout.visible_pairs(dims.causal)):
            rows = layout.lengths[n] + layout.shared + work.extra_rows()[n]
            pairs += work.extra_pairs()[n]
            seen = work.seen_rows(n, dims.causal)
            if self.alone:
                seen, pairs = 0, rows * (rows + 1) // 2 if dims.causal else rows**2
            remote = 0 if site == "kv" else seen
            total = rows * (dims.row_flops() + dims.kv_flops()) + coded_N[n] * coding
            if layout.devices > 1:
                total += seen * self.codec.decode_flops(dims.site_dim(site))
            totals.append(total + remote * dims.kv_flops() + pairs * dims.pair_flops())
        return tuple(totals)

    def options(self):
        """Options that were set, as they are written."""
        names = {"layout_name": "layout"}
        return {names.get(key, key): value for key, value in super().options().items()}
