"""A split of the tokens by which all devices are done at the same time."""

import dataclasses

import numpy as np

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.strategies.base import Setting, Strategy

_ROUNDS = 40


@dataclasses.dataclass(frozen=True)
class Balanced:
    """Tokens in proportion to what each device gets done: a slow one has fewer, and so has one that looks far back.

    Attributes:
        speeds: of the devices, in any unit; equal if None.
    """

    speeds: tuple[float, ...] | None = None

    def shares(self, strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> tuple[float, ...] | None:
        """Each device's share of the tokens, by the strategy's own count of FLOPs.

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
        share_N, best = speed_N, (np.inf, None)
        for _ in range(_ROUNDS):
            layout = strategy.layout(dims, tokens, devices, tuple(share_N))
            seconds_N = np.asarray(strategy.flops(Setting(dims, layout))) / speed_N
            best = min(best, (float(seconds_N.max()), layout.lengths), key=lambda found: found[0])
            share_N = share_N * np.sqrt(seconds_N.mean() / seconds_N)  # half of the way, so that it settles
        return tuple(float(length) for length in best[1] or ())

    def __str__(self) -> str:
        """As it is written on the command line."""
        return "balanced"


Split = tuple[float, ...] | Balanced | None


def shares_of(split: Split, strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> tuple[float, ...] | None:
    """Each device's share of the tokens; None if all are equal."""
    return split.shares(strategy, dims, tokens, devices) if isinstance(split, Balanced) else split
