"""Profiles of emulated hosts: every host times the pieces by itself, all at once, and then they time exchanges.

A turn of it can be put between the turns of a benchmark, so that pieces and passes meet the machine in the same state.
"""

import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thinwire.benchmark.exchange import KINDS
from thinwire.benchmark.fleet import Fleet
from thinwire.benchmark.pieces import ROWS, profile_of
from thinwire.benchmark.plan import Plan
from thinwire.cluster.emulated import HostSpec, emulated
from thinwire.planning.profile import Link, Profile

SMALL, LARGE = 64, 1 << 16  # bytes of a payload whose exchange is timed
_GOODBYE_S = 60.0
_TURNS = 5
Seconds = Mapping[str, float]


@dataclasses.dataclass
class _Turns:
    """What was timed, in each turn by host."""

    pieces: list[Sequence[Seconds]] = dataclasses.field(default_factory=list)
    exchanges: list[Sequence[Seconds]] = dataclasses.field(default_factory=list)


class HostProfiler:
    """Profiles hosts turn by turn; called with the workers, the tokens and the rate of the links of the moment.

    Nothing of it comes from a pass of the model: only pieces of one layer are run, and exchanges of bytes.

    Args:
        plan: whose model and strategies tell which pieces there are.
        rows: sizes at which each piece is measured.
    """

    def __init__(self, plan: Plan, rows: Sequence[int] = ROWS):
        self.plan, self.rows = plan, tuple(rows)
        self._facts: list[dict[str, Any]] = []
        self._turns: dict[tuple[int, float], _Turns] = {}

    def __call__(self, fleet: Fleet, tokens: int, mbps: float | int) -> None:
        """Another turn; before the first one the hosts compile."""
        if not self._facts:
            specs = [strategy.spec() for strategy in self.plan.strategies]
            self._facts = fleet.everybody("profile", strategies=specs, devices=self.plan.hosts, rows=list(self.rows))
            if self.plan.hosts > 1:
                fleet.everybody("exchanges", sizes=[SMALL, LARGE])
        turns = self._turns.setdefault((tokens, float(mbps)), _Turns())
        turns.pieces.append(fleet.everybody("time_pieces"))
        if self.plan.hosts > 1:
            turns.exchanges.append(fleet.everybody("time_exchanges"))

    def profiles(self, tokens: int, mbps: float | int) -> tuple[Profile, ...]:
        """What the turns beside this length and rate tell, a profile a host."""
        turns = self._turns[tokens, float(mbps)]
        links = links_of(turns.exchanges, mbps, self.plan.hosts) if turns.exchanges else {}
        of_host = [profile_of(facts, [turn[n] for turn in turns.pieces]) for n, facts in enumerate(self._facts)]
        return tuple(dataclasses.replace(profile, links=links) for profile in of_host)


def profile_hosts(
    plan: Plan, rows: Sequence[int] = ROWS, progress: Callable[[str], None] = lambda what: None
) -> dict[float, tuple[Profile, ...]]:
    """Profiles of emulated hosts by rate, without any pass beside.

    Args:
        plan: lengths and repeats do not matter.
        rows: sizes at which each piece is measured.

    Raises:
        ThinwireError: hosts cannot be emulated here, or one died.
    """
    specs = [HostSpec(cpu=share, mbps=max(plan.mbps)) for share in plan.cpu]
    command = [sys.executable, "-m", "thinwire.benchmark.worker"]
    profiler = HostProfiler(plan, rows)
    with emulated(specs) as cluster, cluster.start(command, stdin=subprocess.PIPE) as running:
        fleet = Fleet(running)
        progress(f"{plan.hosts} hosts load {plan.model}")
        fleet.everybody("open", model=plan.model, dtype=plan.dtype)
        for mbps in plan.mbps:
            cluster.set_rate(mbps)
            for turn in range(_TURNS):
                progress(f"profile at {mbps:g} Mbps, {turn + 1} of {_TURNS}")
                profiler(fleet, 0, mbps)
        fleet.end()
        running.wait(_GOODBYE_S)
    return {mbps: profiler.profiles(0, mbps) for mbps in plan.mbps}


def links_of(turns: Sequence[Sequence[Seconds]], mbps: float | int, hosts: int) -> dict[str, Link]:
    """What exchanges of each kind cost, of rounds with and without them: by turn, by host, by name."""

    def cost(kind: str, size: int) -> float:
        # Of the slowest host: that the others wait for it is no cost of the exchange.
        slowest = lambda turn, how: max(host[f"{kind}/{size}/{how}"] for host in turn)
        return statistics.median(slowest(turn, "loud") - slowest(turn, "quiet") for turn in turns)

    links = {}
    for kind in KINDS:
        messages = (hosts - 1) * (2 if kind == "sum" else 1)  # a sum is two collectives
        small, large = max(0.0, cost(kind, SMALL)), cost(kind, LARGE)
        a_byte = max(large - small, 0.0) / (messages * (LARGE - SMALL))
        links[kind] = Link(small / messages, min(1.0, 8e-6 / mbps / a_byte) if a_byte else 1.0)
    return links
