"""A benchmark on emulated hosts: strategies in turn on the same processes, at one rate after another."""

import contextlib
import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from thinwire.benchmark.disturbances import DISTURBANCES
from thinwire.benchmark.fleet import Fleet
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.round_trip import round_trip_s
from thinwire.benchmark.rows import row, with_speedups
from thinwire.cluster.emulated import Cluster, Counters, HostSpec, emulated
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import VARIABLE
from thinwire.strategies import Single, Strategy

Progress = Callable[[str], None]
_GOODBYE_S = 60.0
_SETTLE_RUNS = 1  # of each program, before any is timed


def measure(
    plan: Plan, progress: Progress = lambda what: None, save: Callable[[list[dict[str, Any]]], None] = lambda rows: None
) -> list[dict[str, Any]]:
    """A row for each strategy, number of tokens and rate.

    Every strategy runs once before any is timed; then all run in turn, ``repeats`` times. The local work of each is
    timed apart in a program that sends nothing (``thinwire.wire.silence``), in the same turns.

    Args:
        progress: told what is done next.
        save: given all rows so far after every length and rate.

    Raises:
        ThinwireError: hosts cannot be emulated here, a strategy does not fit, or a host died.
    """
    specs = [
        HostSpec(cpu=share, mbps=max(plan.mbps), loss=loss) for share, loss in zip(plan.cpu, plan.losses, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    command, env = [sys.executable, "-m", "thinwire.benchmark.worker"], {VARIABLE: plan.kernels}
    with emulated(specs) as cluster, cluster.start(command, env, stdin=subprocess.PIPE) as running:
        fleet = Fleet(running)
        progress(f"{plan.hosts} hosts load {plan.model}")
        _check_same(fleet.everybody("open", model=plan.model, dtype=plan.dtype))
        for tokens in plan.tokens:
            progress(f"{tokens} tokens: compiling")
            programs = _Programs(fleet, plan, tokens)
            rates = [answer["flops_per_second"] for answer in fleet.everybody("gemm", tokens=-(-tokens // plan.hosts))]
            for mbps in plan.mbps:
                cluster.set_rate(mbps)
                say = lambda what, at=mbps: progress(f"{at:g} Mbps: {what}")
                rows += _at_rate(cluster, programs, plan, tokens, mbps, rates, say)
                save(rows)
            fleet.everybody("forget")
        fleet.end()
        running.wait(_GOODBYE_S)
    return rows


def _check_same(facts: list[dict[str, Any]]) -> None:
    for host, one in enumerate(facts[1:], 1):
        for name, value in one.items():
            if value != facts[0][name]:
                raise ThinwireError(
                    f"host {host} has {name} {value}, and host 0 has {facts[0][name]}; make them equal."
                )


class _Programs:
    """All strategies compiled on the hosts, with their communication and without."""

    def __init__(self, fleet: Fleet, plan: Plan, tokens: int):
        self.fleet, self.hosts = fleet, plan.hosts
        self.facts: dict[Strategy, dict[str, Any]] = {}
        self.coding: dict[Strategy, dict[str, float]] = {}
        for strategy in plan.strategies:
            spec = strategy.spec()
            order: dict[str, Any] = {"strategy": spec, "tokens": tokens, "alone": isinstance(strategy, Single)}
            if not order["alone"]:
                order |= {"split": plan.split, "codebooks": plan.codebooks.get(spec)}
            self.facts[strategy] = self._ask(strategy, "prepare", **order)[0]
            if not order["alone"]:
                self._ask(strategy, "prepare", silent=True, **order)
            seconds = self._ask(strategy, "coding", strategy=spec)
            self.coding[strategy] = {name: max(answer[name] for answer in seconds) for name in seconds[0]}

    def run(self, strategy: Strategy, silent: bool = False) -> tuple[float, tuple[str, ...]]:
        """Seconds of one pass on the host that took longest, and a hash of each host's output."""
        answers = self._ask(strategy, "run", strategy=strategy.spec(), silent=silent)
        return max(one["seconds"] for one in answers), tuple(one["output_sha256"] for one in answers)

    def _ask(self, running: Strategy, do: str, **order: Any) -> list[dict[str, Any]]:
        """Host 0 alone for the single device, else all of them."""
        return self.fleet.ask(range(1 if isinstance(running, Single) else self.hosts), do, **order)


@dataclasses.dataclass
class _Times:
    """What the repeats of one strategy took and sent."""

    total_s: list[float] = dataclasses.field(default_factory=list)
    compute_s: list[float] = dataclasses.field(default_factory=list)
    sent: list[Counters] = dataclasses.field(default_factory=list)  # of the host that sent most
    meeting: list[Counters] = dataclasses.field(default_factory=list)  # what a run sends besides its pass
    outputs: set[tuple[str, ...]] = dataclasses.field(default_factory=set)  # hashes by host; one, if all are the same

    def medians(self) -> tuple[float, float]:
        return statistics.median(self.total_s), statistics.median(self.compute_s)

    def columns(self) -> dict[str, Any]:
        median = lambda found, name: int(statistics.median(getattr(one, name) for one in found))
        extra = {name: median(self.meeting, name) if self.meeting else 0 for name in ("sent_bytes", "sent_packets")}
        return {
            "spread_s": _spread(self.total_s),
            "bytes_interface": max(0, median(self.sent, "sent_bytes") - extra["sent_bytes"]),
            "packets_interface": max(0, median(self.sent, "sent_packets") - extra["sent_packets"]),
            "repeats": len(self.total_s),
        }


def _at_rate(
    cluster: Cluster,
    programs: _Programs,
    plan: Plan,
    tokens: int,
    mbps: float,
    flops_per_second: Sequence[float],
    progress: Progress,
) -> list[dict[str, Any]]:
    """The rows of a length and rate: undisturbed, then under each disturbance."""
    round_trip = round_trip_s(cluster)
    rows: list[dict[str, Any]] = []
    steady: dict[Strategy, _Times] = {}
    for name in ("", *plan.disturbances):

        def around(strategy: Strategy, name=name, steady=steady) -> contextlib.AbstractContextManager[None]:
            if not name:
                return contextlib.nullcontext()
            return DISTURBANCES[name](cluster, plan, mbps, steady[strategy].medians()[0])

        say = lambda what, name=name: progress(f"{name}{name and ': '}{what}")
        times = _in_turns(cluster, programs, plan, around, say)
        steady = steady or times
        found = [
            row(
                plan, programs.facts[strategy], tokens, mbps, *of_one.medians(), flops_per_second, round_trip,
                **of_one.columns(), **programs.coding[strategy], measured=True, emulated=True,
                disturbance=name,
                same_output=len(of_one.outputs | steady[strategy].outputs) == 1,
            )
            for strategy, of_one in times.items()
        ]  # fmt: skip
        rows += with_speedups(found)
    return rows


def _in_turns(
    cluster: Cluster,
    programs: _Programs,
    plan: Plan,
    around: Callable[[Strategy], contextlib.AbstractContextManager[None]],
    progress: Progress,
) -> dict[Strategy, _Times]:
    times = {strategy: _Times() for strategy in plan.strategies}
    for repeat in range(-_SETTLE_RUNS, plan.repeats):
        for strategy, of_one in times.items():
            progress(f"{strategy.spec()}, {max(0, repeat + 1)} of {plan.repeats}")
            alone, counted = isinstance(strategy, Single), repeat >= 0
            with around(strategy) if counted else contextlib.nullcontext():
                before = cluster.counters()
                total, outputs = programs.run(strategy)
                between = cluster.counters()
                compute = total if alone else programs.run(strategy, silent=True)[0]
            if counted:
                of_one.total_s.append(total)
                of_one.compute_s.append(compute)
                of_one.outputs.add(outputs)
                of_one.sent.append(_most_sent(before, between))
            if counted and not alone:  # a silent run meets, too, and sends nothing after that
                of_one.meeting.append(_most_sent(between, cluster.counters()))
    return times


def _most_sent(before: Sequence[Counters], after: Sequence[Counters]) -> Counters:
    """What the host that sent most did in between."""
    passed = [
        Counters(*(b - a for a, b in zip(dataclasses.astuple(x), dataclasses.astuple(y), strict=True)))
        for x, y in zip(before, after, strict=True)
    ]
    return max(passed, key=lambda counters: counters.sent_bytes)


def _spread(seconds: Sequence[float]) -> float:
    """Half the distance between the quartiles."""
    if len(seconds) < 2:
        return 0.0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / 2
