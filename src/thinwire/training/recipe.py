"""What is done to a model so that it can live with coded context."""

import dataclasses
from typing import Literal

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.layout import TokenLayout
from thinwire.strategies import Sequence, Single, Strategy, parse_strategy


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The training of coded context [papers.md 1.4 to 1.7].

    Attributes:
        strategy: as on the command line, with codec and site; ``single`` trains the model itself.
        devices: virtual devices; each step takes one of these numbers, so that one checkpoint serves all of them.
        splits: uneven splits for each number of devices beside the even one; each step takes one.
        commitment: β, the weight of Σ over layers of the mean over tokens of ||x − sg(x̂)||².
        noise: λ, the scale of the noise that is added to coded rows.
        noise_warmup: steps in which λ rises from 0.
        covariance: what of the residual's covariance the noise has.
        codebooks: how the codec's arrays go on learning: by an exponential moving average of rows (codebooks of grouped
            and residual VQ, also behind a prediction; other codecs' arrays stay as calibrated), by gradients, or not
            at all.
        decay: of moving averages, by step.
        statistics: rows a layer and step that averages are taken over, at most.
        attention: the weight of the mean squared distance to the single device's attention outputs, relative to their
            mean square.
        distil: the weight of the distance to the single device's outputs; what is left of 1 is the task's own loss.

    Raises:
        ThinwireError: a value is out of range.
    """

    strategy: str = "sequence:vq:groups=16"
    devices: tuple[int, ...] = (4,)
    splits: int = 0
    commitment: float = 2e-4
    noise: float = 1.0
    noise_warmup: int = 0
    covariance: Literal["diagonal", "full"] = "diagonal"
    codebooks: Literal["ema", "gradient", "fixed"] = "ema"
    decay: float = 0.99
    statistics: int = 8192
    attention: float = 0.0
    distil: float = 0.0

    def __post_init__(self):
        if not self.devices or min(self.devices) < 1:
            raise ThinwireError(f"devices is {self.devices}; name one or more numbers of at least 1.")
        for name in ("commitment", "noise", "noise_warmup", "splits", "attention"):
            if not getattr(self, name) >= 0:
                raise ThinwireError(f"{name} is {getattr(self, name)}; use 0 or more.")
        for name in ("decay", "distil"):
            if not 0 <= getattr(self, name) <= 1:
                raise ThinwireError(f"{name} is {getattr(self, name)}; use 0 to 1.")
        if self.statistics < 1:
            raise ThinwireError(f"statistics is {self.statistics}; averages need at least 1 row.")
        self.parsed()

    def parsed(self) -> Sequence | Single:
        """The strategy.

        Raises:
            ThinwireError: it is none that is trained.
        """
        strategy = parse_strategy(self.strategy)
        if type(strategy) is not Sequence and not isinstance(strategy, Single):
            raise ThinwireError(f"{self.strategy} is not trained: use sequence with any codec, or single.")
        if isinstance(strategy, Single) and self.devices != (1,):
            raise ThinwireError(f"{self.strategy} runs on one device, not on {self.devices}: set devices to 1.")
        if isinstance(strategy, Sequence) and max(self.devices) == 1:
            raise ThinwireError(
                f"{self.strategy} on one device sends nothing to train for: set devices to 2 or more, or strategy to "
                "single."
            )
        return strategy

    @property
    def noisy(self) -> bool:
        """Whether noise is added to coded rows."""
        strategy = self.parsed()
        return self.noise > 0 and isinstance(strategy, Sequence) and strategy.lossy and strategy.codec.sends

    def layouts(self, strategy: Strategy, dims, tokens: int, seed: int) -> list[TokenLayout]:
        """Every layout that training takes turns in, each a program of its own: even splits first, then uneven ones.

        Raises:
            ThinwireError: so many tokens cannot be split so.
        """
        even = [strategy.layout(dims, tokens, count, None) for count in self.devices]
        rng = np.random.default_rng([seed, 77])
        shares = [(count, tuple(rng.uniform(0.5, 1.5, count))) for count in self.devices for _ in range(self.splits)]
        return even + [strategy.layout(dims, tokens, count, split) for count, split in shares if count > 1]
