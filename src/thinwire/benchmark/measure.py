"""A benchmark on emulated hosts: strategies in turn on the same processes, at one rate after another."""

import dataclasses
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from thinwire.benchmark.fleet import Fleet
from thinwire.benchmark.floor import floor_s
from thinwire.benchmark.round_trip import round_trip_s
from thinwire.benchmark.worker import PEERS
from thinwire.cluster.emulated import HostSpec, emulated
from thinwire.errors import ThinwireError
from thinwire.strategies import Single, Strategy

Progress = Callable[[str], None]
_LAST_WORDS = 12  # lines of standard error, told if a host ends
_GOODBYE_S = 60.0
_SETTLE_RUNS = 1  # of each program, before any is timed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        codebooks: folders by strategy, of those that learn; random ones where there is none.
        split: each host's share of the tokens; even if None.
    """

    model: str
    strategies: tuple[Strategy, ...]
    hosts: int
    cpu: tuple[float, ...]  # cores of each host
    mbps: tuple[float, ...]
    tokens: tuple[int, ...]
    dtype: str = "float32"
    repeats: int = 5
    split: tuple[float, ...] | None = None
    codebooks: dict[str, str] = dataclasses.field(default_factory=dict)


def measure(plan: Plan, progress: Progress = lambda what: None) -> list[dict[str, Any]]:
    """A row for each strategy, number of tokens and rate.

    Every strategy runs once before any is timed; then all run in turn, ``repeats`` times. The local work of each is
    timed apart in a program that sends nothing (``thinwire.wire.silence``), in the same turns.

    Args:
        progress: told what is done next.

    Raises:
        ThinwireError: hosts cannot be emulated here, a strategy does not fit, or a host died.
    """
    specs = [HostSpec(cpu=share, mbps=max(plan.mbps)) for share in plan.cpu]
    rows: list[dict[str, Any]] = []
    with emulated(specs) as cluster:
        command = [sys.executable, "-m", "thinwire.benchmark.worker"]
        said: list[deque[str]] = [deque(maxlen=_LAST_WORDS) for _ in specs]
        hear = lambda host, line: said[host].append(line)
        with cluster.start(command, stdin=subprocess.PIPE, error_sink=hear) as running:
            fleet = Fleet(running.processes, said)
            progress(f"{plan.hosts} hosts load {plan.model}")
            _same(fleet.everybody("open", model=plan.model, dtype=plan.dtype))
            for tokens in plan.tokens:
                progress(f"{tokens} tokens: compiling")
                programs = _Programs(fleet, plan, tokens)
                rate = [a["flops_per_second"] for a in fleet.everybody("gemm", tokens=-(-tokens // plan.hosts))]
                for mbps in plan.mbps:
                    cluster.set_rate(mbps)
                    round_trip = round_trip_s(cluster)
                    rows += _at_rate(cluster, programs, plan, tokens, mbps, rate, round_trip, progress)
                fleet.everybody("forget")
            fleet.end()
            running.wait(_GOODBYE_S)
    return rows


def _same(facts: list[dict[str, Any]]) -> None:
    for host, one in enumerate(facts[1:], 1):
        for name, value in one.items():
            if value != facts[0][name]:
                raise ThinwireError(
                    f"host {host} has {name} {value}, and host 0 has {facts[0][name]}; make them equal."
                )


def _largest(answers: list[dict[str, float]]) -> dict[str, float]:
    return {name: max(answer[name] for answer in answers) for name in answers[0]}


class _Programs:
    """All strategies compiled on the hosts, with their communication and without."""

    def __init__(self, fleet: Fleet, plan: Plan, tokens: int):
        self.fleet, self.plan = fleet, plan
        self.facts: dict[Strategy, list[dict[str, Any]]] = {}
        self.keys: dict[Strategy, int] = {}
        self.coding: dict[Strategy, dict[str, float]] = {}
        for number, strategy in enumerate(plan.strategies):
            self.keys[strategy] = 2 * number
            alone = isinstance(strategy, Single)
            order: dict[str, Any] = {"strategy": strategy.spec(), "tokens": tokens, "place": "" if alone else PEERS}
            if not alone:
                order |= {"split": plan.split, "codebooks": plan.codebooks.get(strategy.spec())}
            self.facts[strategy] = fleet.ask(self.hosts(strategy), "prepare", key=2 * number, **order)
            self.coding[strategy] = {"encode_s": 0.0, "decode_s": 0.0}
            if not alone:
                fleet.everybody("prepare", key=2 * number + 1, silent=True, **order)
                self.coding[strategy] = _largest(fleet.everybody("coding", key=2 * number))

    def hosts(self, strategy: Strategy) -> range:
        """Who runs it: one host alone, or all of them."""
        return range(1 if isinstance(strategy, Single) else self.plan.hosts)

    def seconds(self, strategy: Strategy, silent: bool = False) -> list[float]:
        """Of one pass, by host."""
        key = self.keys[strategy] + silent
        return [answer["seconds"][0] for answer in self.fleet.ask(self.hosts(strategy), "run", key=key)]


def _at_rate(
    cluster, programs: _Programs, plan: Plan, tokens, mbps, rate, round_trip, progress
) -> list[dict[str, Any]]:
    total: dict[Strategy, list[float]] = {s: [] for s in plan.strategies}
    local: dict[Strategy, list[list[float]]] = {s: [] for s in plan.strategies}
    sent: dict[Strategy, list[int]] = {s: [] for s in plan.strategies}
    packets: dict[Strategy, list[int]] = {s: [] for s in plan.strategies}
    for repeat in range(-_SETTLE_RUNS, plan.repeats):
        for strategy in plan.strategies:
            progress(f"{tokens} tokens, {mbps:g} Mbps: {strategy.spec()}, {max(0, repeat + 1)} of {plan.repeats}")
            before = cluster.counters()
            seconds = programs.seconds(strategy)
            after = cluster.counters()
            alone = isinstance(strategy, Single)
            silent = seconds if alone else programs.seconds(strategy, silent=True)
            if repeat >= 0:
                total[strategy].append(max(seconds))
                local[strategy].append(silent)
                sent[strategy].append(max(b.sent_bytes - a.sent_bytes for a, b in zip(before, after, strict=True)))
                packets[strategy].append(
                    max(b.sent_packets - a.sent_packets for a, b in zip(before, after, strict=True))
                )
    rows = []
    for strategy in plan.strategies:
        facts = programs.facts[strategy][0]
        seconds = statistics.median(total[strategy])
        compute = statistics.median(max(one) for one in local[strategy])
        floor = floor_s(
            facts["model_flops"], rate[: len(facts["model_flops"])], facts["bytes_by_device"], mbps, facts["rounds"],
            round_trip,
        )  # fmt: skip
        rows.append(
            {
                "strategy": strategy.spec(),
                "codec": facts["codec"],
                "bits_per_token_per_layer": facts["bits_per_token_per_layer"],
                "hosts": len(programs.hosts(strategy)),
                "cpu": list(plan.cpu),
                "mbps": mbps,
                "tokens": tokens,
                "dtype": plan.dtype,
                "total_s": seconds,
                "spread_s": _spread(total[strategy]),
                "compute_s": compute,
                "wire_s": max(0.0, seconds - compute),
                **programs.coding[strategy],
                "floor_s": floor,
                "ratio_to_floor": seconds / floor,
                "bytes_ledger": max(facts["bytes_by_device"]),
                "bytes_interface": int(statistics.median(sent[strategy])),
                "packets_interface": int(statistics.median(packets[strategy])),
                "messages": max(facts["messages_by_device"]),
                "compile_s": facts["compile_s"],
                "flops_per_second": min(rate),
                "round_trip_s": round_trip,
                "repeats": plan.repeats,
                "emulated": True,
                "measured": True,
            }
        )
    return with_speedups(rows)


def with_speedups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one rate and length with their speedups over the baselines among them."""
    base = {row["strategy"]: row["total_s"] for row in rows}
    for row in rows:
        for name, spec in (
            ("single", "single"),
            ("sequence_float32", "sequence:float32"),
            ("tensor_float32", "tensor:float32"),
        ):
            row[f"speedup_vs_{name}"] = base[spec] / row["total_s"] if spec in base else None
    return rows


def _spread(seconds: Sequence[float]) -> float:
    """Half the distance between the quartiles."""
    if len(seconds) < 2:
        return 0.0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / 2
