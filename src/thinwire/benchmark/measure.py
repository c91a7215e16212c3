"""A benchmark on emulated hosts: strategies in turn on the same processes, at one rate after another."""

import contextlib
import dataclasses
import functools
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinwire.benchmark.disturbances import DISTURBANCES, Disturbing
from thinwire.benchmark.fleet import Fleet
from thinwire.benchmark.peers import PeerProcess, running_peers
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.profiles import finish, folder_name
from thinwire.benchmark.round_trip import round_trip_s
from thinwire.benchmark.rows import TimedPass, peer_row, row, with_speedups
from thinwire.cluster.cpu import stolen_s
from thinwire.cluster.emulated import Cluster, Counters, HostSpec, emulated
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import VARIABLE
from thinwire.strategies import Single, Strategy
from thinwire.strategies.balance import Balanced

Progress = Callable[[str], None]
_GOODBYE_S = 60.0
_SETTLE_RUNS = 1  # of each program, before any is timed


def measure(
    plan: Plan,
    progress: Progress = lambda what: None,
    save: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    beside: Callable[[Fleet, int, float], None] = lambda fleet, tokens, mbps: None,
) -> list[dict[str, Any]]:
    """A row for each strategy, number of tokens and rate.

    Every strategy runs once before any is timed; then all run in turn, ``repeats`` times, and after them the peers, on
    host 0. The local work of each is timed apart in a program that sends nothing (``thinwire.wire.silence``), in the
    same turns.

    Args:
        progress: told what is done next.
        save: given all rows so far after every length and rate.
        beside: called once in every turn, with the workers, the tokens and the rate, to measure something else.

    Raises:
        ThinwireError: hosts cannot be emulated here, a strategy does not fit, or a host died.
    """
    specs = [
        HostSpec(cpu=share, mbps=max(plan.mbps), loss=loss)
        for share, loss in zip(plan.cpu, plan.loss or (0.0,) * plan.hosts, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    command, env = [sys.executable, "-m", "thinwire.benchmark.worker"], {VARIABLE: plan.kernels}
    with (
        emulated(specs) as cluster,
        cluster.start(command, env, stdin=subprocess.PIPE) as running,
        contextlib.ExitStack() as stack,
    ):
        fleet = Fleet(running)
        progress(f"{plan.hosts} hosts load {plan.trained or plan.model}")
        _check_same(fleet.everybody("open", model=plan.model, dtype=plan.dtype, trained=plan.trained))
        peers = stack.enter_context(running_peers(plan.peers, cluster.start, progress))
        for tokens in plan.tokens:
            progress(f"{tokens} tokens: compiling")
            programs = _Programs(fleet, plan, tokens)
            fleet.everybody("watch", tokens=-(-tokens // plan.hosts))
            for mbps in plan.mbps:
                cluster.set_rate(mbps)
                say = lambda what, at=mbps: progress(f"{at:g} Mbps: {what}")
                turn = lambda at=mbps, tokens=tokens: beside(fleet, tokens, at)
                rows += _at_rate(cluster, programs, peers, plan, tokens, mbps, say, turn)
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
                balanced = isinstance(plan.split, Balanced)
                split = plan.split.speeds if isinstance(plan.split, Balanced) else plan.split
                order |= {"split": split, "balanced": balanced, "codebooks": plan.codebooks.get(spec)}
            self.facts[strategy] = self.fleet.everybody("prepare", **order)[0]
            if not order["alone"]:
                self._ask(strategy, "prepare", silent=True, **order)
            seconds = self._ask(strategy, "coding", strategy=spec)
            self.coding[strategy] = {name: max(answer[name] for answer in seconds) for name in seconds[0]}

    def busy(self, single: Strategy) -> float:
        """Seconds of the single host's pass while every other host makes one, too."""
        return self.fleet.everybody("run", strategy=single.spec(), silent=False)[0]["seconds"]

    def run(self, strategy: Strategy, silent: bool = False, begun: Callable[[], None] | None = None) -> "_Pass":
        """One pass on all hosts, or on host 0 alone; ``begun`` is called when all have met and it begins."""
        answers = self._ask(strategy, "run", begun=begun, strategy=strategy.spec(), silent=silent)
        most = lambda name: max(one[name] for one in answers)
        of_each = lambda name: tuple(one[name] for one in answers)
        timed = TimedPass(most("seconds"), of_each("flops_per_second"))
        return _Pass(timed, most("cpu_s"), of_each("output_sha256"))

    def profile(self, strategy: Strategy, folder: Path) -> dict[str, Any]:
        """One more pass, under the profiler: where its seconds went."""
        answers = self._ask(strategy, "profile", strategy=strategy.spec(), folder=str(folder.absolute()))
        return {"folder": str(folder), **finish(folder, len(answers))}

    def _ask(self, running: Strategy, do: str, **order: Any) -> list[dict[str, Any]]:
        """Host 0 alone for the single device, else all of them."""
        return self.fleet.ask(range(1 if isinstance(running, Single) else self.hosts), do, **order)


@dataclasses.dataclass(frozen=True)
class _Pass:
    """Seconds and CPU seconds of the host that took most, and a hash of each host's output."""

    timed: TimedPass
    cpu_s: float
    outputs: tuple[str, ...]


@dataclasses.dataclass
class _Times:
    """What the repeats of one strategy took and sent."""

    passes: list[TimedPass] = dataclasses.field(default_factory=list)
    compute_s: list[float] = dataclasses.field(default_factory=list)
    busy_s: list[float] = dataclasses.field(default_factory=list)  # of a single host beside others that are busy, too
    cpu_s: list[float] = dataclasses.field(default_factory=list)  # of the local work
    stolen_s: list[float] = dataclasses.field(default_factory=list)  # of the machine's CPUs, by its hypervisor
    sent: list[Counters] = dataclasses.field(default_factory=list)  # of the host that sent most
    meeting: list[Counters] = dataclasses.field(default_factory=list)  # what a run sends besides its pass
    outputs: set[tuple[str, ...]] = dataclasses.field(default_factory=set)  # hashes by host; one, if all are the same

    @property
    def total_s(self) -> list[float]:
        return [one.seconds for one in self.passes]

    def columns(self) -> dict[str, Any]:
        median = lambda found, name: int(statistics.median(getattr(one, name) for one in found))
        extra = {name: median(self.meeting, name) if self.meeting else 0 for name in ("sent_bytes", "sent_packets")}
        return {
            "spread_s": _spread(self.total_s),
            "busy_s": statistics.median(self.busy_s) if self.busy_s else None,
            "cpu_s": statistics.median(self.cpu_s),
            "stolen_s": statistics.median(self.stolen_s),
            "bytes_interface": max(0, median(self.sent, "sent_bytes") - extra["sent_bytes"]),
            "packets_interface": max(0, median(self.sent, "sent_packets") - extra["sent_packets"]),
            "repeats": len(self.total_s),
        }


def _at_rate(
    cluster: Cluster,
    programs: _Programs,
    peers: Sequence[PeerProcess],
    plan: Plan,
    tokens: int,
    mbps: float,
    progress: Progress,
    each_turn: Callable[[], None],
) -> list[dict[str, Any]]:
    """The rows of a length and rate: undisturbed, then under each disturbance."""
    round_trip = round_trip_s(cluster)
    rows: list[dict[str, Any]] = []
    steady: dict[Strategy, _Times] = {}
    for name in ("", *plan.disturbances):
        steady_s = {strategy: statistics.median(of_one.total_s) for strategy, of_one in steady.items()}
        around = _undisturbed if not name else functools.partial(_disturbed, name, cluster, plan, mbps, steady_s)
        of_peers = [] if name else peers  # what disturbs links and the last host is not for them
        say = functools.partial(_say, progress, name)
        times, peers_s = _in_turns(cluster, programs, of_peers, plan, tokens, around, say, each_turn)
        steady = steady or times
        found = [
            row(
                plan, programs.facts[strategy], tokens, mbps, of_one.passes, statistics.median(of_one.compute_s),
                round_trip, **of_one.columns(), **programs.coding[strategy], measured=True, emulated=True,
                disturbance=name, same_output=len(of_one.outputs | steady[strategy].outputs) == 1,
            )
            for strategy, of_one in times.items()
        ]  # fmt: skip
        found += [
            peer_row(
                peer, plan, tokens, mbps, total_s=statistics.median(seconds), spread_s=_spread(seconds),
                repeats=len(seconds), measured=True, emulated=True, disturbance=name,
            )
            for peer, seconds in zip(of_peers, peers_s, strict=True)
        ]  # fmt: skip
        rows += with_speedups(found)
    if plan.profile:
        of = {one["strategy"]: one for one in rows if not one["disturbance"]}
        for strategy in plan.strategies:
            spec = strategy.spec()
            progress(f"{spec}, under the profiler")
            of[spec]["profile"] = programs.profile(strategy, Path(plan.profile) / folder_name(spec, tokens, mbps))
    return rows


def _undisturbed(strategy: Strategy) -> Disturbing:
    del strategy
    return contextlib.nullcontext()


def _disturbed(
    name: str, cluster: Cluster, plan: Plan, mbps: float, steady_s: Mapping[Strategy, float], strategy: Strategy
) -> Disturbing:
    return DISTURBANCES[name](cluster, plan, mbps, steady_s[strategy])


def _say(progress: Progress, name: str, what: str) -> None:
    progress(f"{name}: {what}" if name else what)


def _in_turns(
    cluster: Cluster,
    programs: _Programs,
    peers: Sequence[PeerProcess],
    plan: Plan,
    tokens: int,
    around: Callable[[Strategy], Disturbing],
    progress: Progress,
    each_turn: Callable[[], None],
) -> tuple[dict[Strategy, _Times], list[list[float]]]:
    """What the repeats of each strategy took and sent, and the seconds of each peer's."""
    times = {strategy: _Times() for strategy in plan.strategies}
    peers_s: list[list[float]] = [[] for _ in peers]
    for repeat in range(-_SETTLE_RUNS, plan.repeats):
        if repeat >= 0:
            each_turn()
        for strategy, of_one in times.items():
            progress(f"{strategy.spec()}, {max(0, repeat + 1)} of {plan.repeats}")
            alone, counted = isinstance(strategy, Single), repeat >= 0
            with around(strategy) if counted else contextlib.nullcontext() as begun:
                before, stolen = cluster.counters(), stolen_s()
                whole = programs.run(strategy, begun=begun)
                between, stolen = cluster.counters(), stolen_s() - stolen
                local = whole if alone else programs.run(strategy, silent=True)
            if counted:
                of_one.passes.append(whole.timed)
                of_one.compute_s.append(local.timed.seconds)
                of_one.cpu_s.append(local.cpu_s)
                of_one.busy_s += [programs.busy(strategy)] if alone else []
                of_one.stolen_s.append(stolen)
                of_one.outputs.add(whole.outputs)
                of_one.sent.append(_most_sent(before, between))
            if counted and not alone:  # a silent run meets, too, and sends nothing after that
                of_one.meeting.append(_most_sent(between, cluster.counters()))
        for peer, of_peer in zip(peers, peers_s, strict=True):
            progress(f"{peer.peer.name}, {max(0, repeat + 1)} of {plan.repeats}")
            seconds = peer.run(tokens)
            if repeat >= 0:
                of_peer.append(seconds)
    return times, peers_s


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
