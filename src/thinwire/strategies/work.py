"""What a device does in a pass, counted: rows through matrices, pairs of attention, rows coded and decoded."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Literal

import numpy as np

from thinwire.attention.context import CAUSAL_TILE, MOST_TILES, keys_of, pairs_of, tiles
from thinwire.branches import meeting
from thinwire.codecs.base import Codec
from thinwire.dims import ModelDims
from thinwire.layout import contiguous
from thinwire.strategies.base import Setting, Strategy, Traffic
from thinwire.strategies.consecutive import keys_before
from thinwire.strategies.heads import HeadPlan, deal
from thinwire.strategies.sequence import Sequence
from thinwire.strategies.single import Single
from thinwire.strategies.tensor import Tensor


@dataclasses.dataclass(frozen=True)
class Coding:
    """One use of a codec that a profile can hold the cost of: ``encode`` or ``decode`` of rows of ``dim`` values.

    Or ``own``: both of a device's own rows, from one prediction, where the next one goes on from what others see.
    Or ``sum``: a coded all-reduce of rows over so many devices, the local work of it.
    """

    kind: Literal["encode", "decode", "own", "sum"]
    codec: Codec
    dim: int
    devices: int = 1

    @property
    def name(self) -> str:
        """As in ``encode int8@1536`` and ``sum int8@768 over 4``."""
        over = f" over {self.devices}" if self.kind == "sum" else ""
        return f"{self.kind} {self.codec.spec()}@{self.dim}{over}"


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does. Padding, halos and hidden keys that are computed nevertheless are counted: they take time.

    Attributes:
        layers: of the model.
        rows: that go through every layer.
        share: of a layer's matrices that the device has; 1 but for ``tensor``.
        pairs: (query, key) pairs of a layer's attention, each of all heads; of a part of the heads, that part of them.
        projected: rows of other devices that go through the key and value projections in a layer.
        coded_layers: of these, those in which anything is coded.
        coding: in each of them, and of how many rows.
        exchange: how bytes travel: a ``gather`` of payloads to all others (or round a ring), or a coded ``sum``.
    """

    layers: int
    rows: float | int
    share: float | int
    pairs: float | int
    projected: float | int
    coded_layers: int
    coding: tuple[tuple[Coding, float | int], ...]
    exchange: Literal["gather", "sum"] = "gather"


def codings(strategy: Strategy, dims: ModelDims, devices: int) -> tuple[Coding, ...]:
    """The uses of its codec that the cost of a strategy on so many devices depends on."""
    if isinstance(strategy, Single) or devices == 1:
        return ()
    works = work_of(strategy, dims, max(2 * devices, 64), devices)
    return tuple(dict.fromkeys(one for work in works for one, _ in work.coding))


def work_of(
    strategy: Strategy, dims: ModelDims, tokens: int, devices: int, split: tuple[float, ...] | None = None
) -> tuple[Work, ...]:
    """The work of each device in a pass over ``tokens`` tokens that makes the last position's output.

    Raises:
        ThinwireError: the strategy does not fit the model, or the tokens cannot be split so.
    """
    setting = Setting(dims, strategy.layout(dims, tokens, devices, split))
    if isinstance(strategy, Tensor):
        return _tensor(strategy, setting)
    if isinstance(strategy, Sequence):
        return tuple(_sequence(strategy, setting, n) for n in range(devices))
    pairs = _own_pairs(tiles(setting.layout), dims.causal, tokens)
    return (Work(dims.layers, tokens, 1, pairs, 0, 0, ()),)


def traffic_of(
    strategy: Strategy,
    dims: ModelDims,
    tokens: int,
    devices: int,
    split: tuple[float, ...] | None = None,
    streams: bool = False,
) -> Traffic:
    """What each device sends in a whole pass, by formula; between CPU hosts gathers go through ``streams``."""
    setting = Setting(dims, strategy.layout(dims, tokens, devices, split), streams=streams)
    return strategy.traffic(setting).times(strategy.coded_layers(dims))


def tensor_share(dims: ModelDims, devices: int) -> float:
    """Of a layer's FLOPs a row, the part of a device that has its share of heads and columns, empty slots included."""
    plan = HeadPlan(dims.heads, dims.kv_heads, devices)
    heads, kv_heads = plan.query_NH.shape[1], plan.key_NK.shape[1]
    part = dataclasses.replace(dims, heads=heads, kv_heads=kv_heads, hidden=deal(dims.hidden, devices).shape[1])
    return (part.row_flops() + part.kv_flops()) / (dims.row_flops() + dims.kv_flops())


def _tensor(strategy: Tensor, setting: Setting) -> tuple[Work, ...]:
    dims, devices, tokens = setting.dims, setting.layout.devices, setting.layout.tokens
    heads = HeadPlan(dims.heads, dims.kv_heads, devices).query_NH.shape[1]
    pairs = _own_pairs(tiles(contiguous(tokens, 1)), dims.causal, tokens) * heads / dims.heads
    one = (Coding("sum", strategy.codec, dims.width, devices), tokens)
    coding = (one,) * len(strategy.sites(dims)) if devices > 1 else ()
    return (Work(dims.layers, tokens, tensor_share(dims, devices), pairs, 0, dims.layers, coding, "sum"),) * devices


def _sequence(strategy: Sequence, setting: Setting, n: int) -> Work:
    dims, layout = setting.dims, setting.layout
    work, site = strategy.work(setting), strategy.sites(dims)[0]
    width = work.positions_NW.shape[1]
    rows = work.worked_rows(n)
    here = [tile for tile in work.tiles if tile[0] + layout.shared < work.counts_N[n]]
    seen = np.flatnonzero(work.looks(dims.causal)[n]).tolist()
    if strategy.alone:
        pairs, seen = _own_pairs(here, dims.causal, rows), []
    elif dims.causal and strategy.attends_at_once(setting):
        own = int(work.counts_N[n]) - layout.shared
        pairs = _last_pairs(own, own + layout.shared + sum(keys_before(work, n)))
    elif dims.causal:
        pairs = _own_pairs(here, True, int(work.counts_N[n]) - layout.shared) + width * layout.shared
        queries = work.queries(True)
        for tile, key_tile in itertools.product(work.tiles, tiles(layout)):
            (mine, theirs), meet_NN = pairs_of(layout, queries, tile, key_tile, True)
            theirs = meeting(mine, theirs, meet_NN)
            pairs += sum(mine.worked(n) * theirs.worked(m) for m in np.flatnonzero(meet_NN[n]).tolist())
    else:
        pairs = rows * layout.tokens
    coding = ()
    if layout.devices > 1 and strategy.codec.sends:
        kinds = ("own" if strategy.codec.predicts else "encode", "decode")
        own, others = (Coding(kind, strategy.codec, dims.site_dim(site)) for kind in kinds)
        # Of codecs that predict, that is most of the work, and done of rows with tokens only.
        whole = keys_of(layout, (0, layout.rows))
        coded = whole.worked if strategy.codec.predicts and dims.causal else lambda device: layout.rows
        coding = ((own, coded(n) * int(work.heard(dims.causal)[n])), (others, sum(map(coded, seen))))
    projected = 0 if site == "kv" else layout.rows * len(seen)
    return Work(dims.layers, rows, 1, pairs, projected, strategy.coded_layers(dims), coding)


def _own_pairs(bounds: Iterable[tuple[int, int]], causal: bool, keys: int) -> int:
    """Pairs that attention among own rows computes: of a causal model whole tiles up to their last row."""
    bounds = tuple(bounds)
    if not causal:
        return sum(_length(tile) * keys for tile in bounds)
    pairs = 0
    for start, stop in bounds:
        rows = max(CAUSAL_TILE, -(-(stop - start) // MOST_TILES))
        begins = range(start, min(stop, keys), rows)  # tiles behind the last token are left out
        pairs += sum((min(a + rows, stop) - a) * min(a + rows, stop) for a in begins)
    return pairs


def _last_pairs(queries: int, keys: int) -> int:
    """Pairs that attention of the last tokens to all keys computes, tile by tile."""
    begins = range(0, queries, CAUSAL_TILE)
    stops = [min(a + CAUSAL_TILE, queries) for a in begins]
    return sum((b - a) * (keys - queries + b) for a, b in zip(begins, stops, strict=True))


def _length(tile: tuple[int, int]) -> int:
    return tile[1] - tile[0]
