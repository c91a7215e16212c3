"""A split of the tokens by which all devices are done at the same time."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.strategies.base import Strategy
from thinwire.strategies.work import work_of

_ROUNDS = 20
# An operation of attention takes as long as so many of a layer's large products: its own are small, and softmax is none
# (SmolLM2 in bfloat16 on one core, by trace: Cascade Lake 21 and 11 ms a GFLOP, EPYC 10 and 5.4). What fits the whole
# work of two and of four devices best is a little less (EPYC).
_ATTENTION = 1.5

Lengths = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Balanced:
    """Tokens in proportion to what each device gets done: a slow one has fewer, and so has one that looks far back.

    Attributes:
        speeds: of the devices, in any unit; equal if None.
    """

    speeds: tuple[float, ...] | None = None

    @functools.cache  # noqa: B019
    def shares(self, strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> tuple[float, ...] | None:
        """Each device's share of the tokens, by the work that each has (``work_of``), padding included.

        Returns:
            Numbers of tokens, the best split that was found; None where the strategy splits no tokens.

        Raises:
            ThinwireError: there are not as many speeds as devices, or more devices than tokens.
        """
        if not strategy.splits_tokens or devices == 1:
            return None
        speed_N = np.ones(devices) if self.speeds is None else np.asarray(self.speeds, float)
        if len(speed_N) != devices:
            raise ThinwireError(f"{len(speed_N)} speeds were given for {devices} devices; give one each.")
        seconds_N = lambda lengths: costs(strategy, dims, tokens, lengths) / speed_N
        share_N, best = speed_N, (np.inf, ())
        for _ in range(_ROUNDS):
            lengths = strategy.layout(dims, tokens, devices, tuple(share_N)).lengths
            spent_N = seconds_N(lengths)
            best = min(best, (float(spent_N.max()), lengths))
            share_N = share_N * np.sqrt(spent_N.mean() / spent_N)  # half of the way, so that it settles
        return tuple(float(length) for length in _improved(best[1], seconds_N))

    def __str__(self) -> str:
        """As it is written on the command line."""
        return "balanced"


def _improved(lengths: Lengths, seconds_N: Callable[[Lengths], Float[np.ndarray, " N"]]) -> Lengths:
    """Has the slowest device, or the one with most tokens, to which all are padded, give some away while that helps."""
    spent_N = seconds_N(lengths)
    step, least = max(1, max(lengths) // 8), max(1, sum(lengths) // 1024)
    while step >= least:
        found = [(float(spent_N.max()), lengths, spent_N)]
        for giver, taker in itertools.product({int(spent_N.argmax()), int(np.argmax(lengths))}, range(len(lengths))):
            moved = list(lengths)
            moved[giver], moved[taker] = moved[giver] - step, moved[taker] + step
            if giver != taker and moved[giver] > 0:
                then_N = seconds_N(tuple(moved))
                found.append((float(then_N.max()), tuple(moved), then_N))
        best = min(found, key=lambda one: one[0])
        if best[1] == lengths:
            step //= 2
        _, lengths, spent_N = best
    return lengths


def costs(strategy: Strategy, dims: ModelDims, tokens: int, lengths: Lengths) -> Float[np.ndarray, " N"]:
    """What each device computes in a layer, in operations of a layer's products."""
    costs = []
    for work in work_of(strategy, dims, tokens, len(lengths), tuple(float(length) for length in lengths)):
        coding = sum(rows * getattr(one.codec, f"{one.kind}_flops")(one.dim) for one, rows in work.coding)
        matrices = work.rows * (dims.row_flops() + dims.kv_flops()) + work.projected * dims.kv_flops()
        costs.append(matrices + _ATTENTION * work.pairs * dims.pair_flops() + coding)
    return np.asarray(costs)


Split = tuple[float, ...] | Balanced | None


def shares_of(split: Split, strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> tuple[float, ...] | None:
    """Each device's share of the tokens; None if all are equal."""
    return split.shares(strategy, dims, tokens, devices) if isinstance(split, Balanced) else split
