"""What a benchmark is asked to measure."""

import dataclasses

from thinwire.benchmark.peers import Peer
from thinwire.kernels.choice import Kernels
from thinwire.strategies import Strategy
from thinwire.strategies.balance import Split


@dataclasses.dataclass(frozen=True)
class Plan:
    """A model, strategies, hosts, rates and lengths.

    Attributes:
        cpu: cores of each host.
        mbps: rates of the links, one after another.
        tokens: lengths, one after another.
        repeats: of every strategy, in turn.
        split: each host's share of the tokens, or one balanced for each strategy; even if None.
        codebooks: folders by strategy, of those that learn; random ones where there is none.
        loss: share of packets that each host loses; none if empty.
        disturbances: names of ``DISTURBANCES``; everything is measured once more under each.
        profile: folder for profiles of one more pass of each strategy, length and rate; none if empty.
        peers: other programs, in turn with the strategies.
        trained: folder of trained weights, absolute; the model as it is if empty.
        kernels: what the hosts' programs are traced with (``thinwire.kernels.choice``).
    """

    model: str
    strategies: tuple[Strategy, ...]
    cpu: tuple[float, ...]
    mbps: tuple[float, ...]
    tokens: tuple[int, ...]
    dtype: str = "float32"
    repeats: int = 5
    split: Split = None
    codebooks: dict[str, str] = dataclasses.field(default_factory=dict)
    loss: tuple[float, ...] = ()
    disturbances: tuple[str, ...] = ()
    profile: str = ""
    peers: tuple[Peer, ...] = ()
    trained: str = ""
    kernels: Kernels = "auto"

    @property
    def hosts(self) -> int:
        """How many there are."""
        return len(self.cpu)
