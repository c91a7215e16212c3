"""What a benchmark is asked to measure."""

import dataclasses

from thinwire.kernels.choice import Kernels
from thinwire.strategies import Strategy


@dataclasses.dataclass(frozen=True)
class Plan:
    """A model, strategies, hosts, rates and lengths.

    Attributes:
        cpu: cores of each host.
        mbps: rates of the links, one after another.
        tokens: lengths, one after another.
        repeats: of every strategy, in turn.
        split: each host's share of the tokens; even if None.
        codebooks: folders by strategy, of those that learn; random ones where there is none.
        disturbances: names of ``DISTURBANCES``; everything is measured once more under each.
        loss: share of packets that each host loses; none if empty.
        kernels: what the hosts' programs are traced with (``thinwire.kernels.choice``).
    """

    model: str
    strategies: tuple[Strategy, ...]
    cpu: tuple[float, ...]
    mbps: tuple[float, ...]
    tokens: tuple[int, ...]
    dtype: str = "float32"
    repeats: int = 5
    split: tuple[float, ...] | None = None
    codebooks: dict[str, str] = dataclasses.field(default_factory=dict)
    disturbances: tuple[str, ...] = ()
    loss: tuple[float, ...] = ()
    kernels: Kernels = "auto"

    @property
    def hosts(self) -> int:
        """How many there are."""
        return len(self.cpu)

    @property
    def losses(self) -> tuple[float, ...]:
        """The share of packets that each host loses."""
        return self.loss or (0.0,) * self.hosts
