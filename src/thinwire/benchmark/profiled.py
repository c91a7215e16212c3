"""Profiles of emulated hosts: every host measures the pieces by itself, all at once, then they time exchanges."""

import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from thinwire.benchmark.fleet import Fleet
from thinwire.benchmark.pieces import ROWS
from thinwire.benchmark.plan import Plan
from thinwire.cluster.emulated import Cluster, HostSpec, emulated
from thinwire.planning.profile import Profile, from_plain

SMALL, LARGE = 64, 1 << 16  # bytes of a payload whose exchange is timed
_GOODBYE_S = 60.0


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A timed gather."""

    mbps: float | int
    sent: int  # bytes by each host
    seconds: float


def profile_hosts(
    plan: Plan, rows: Sequence[int] = ROWS, progress: Callable[[str], None] = lambda what: None
) -> tuple[Profile, ...]:
    """A profile of each emulated host, with its links, for the model and the codecs of a plan.

    Nothing of it comes from a pass of the model: only pieces of one layer are run, and gathers of bytes.

    Args:
        plan: lengths and repeats do not matter; of the rates the lowest and the highest are measured.
        rows: sizes at which each piece is measured.

    Raises:
        ThinwireError: hosts cannot be emulated here, or one died.
    """
    specs = [HostSpec(cpu=share, mbps=max(plan.mbps)) for share in plan.cpu]
    command = [sys.executable, "-m", "thinwire.benchmark.worker"]
    with emulated(specs) as cluster, cluster.start(command, stdin=subprocess.PIPE) as running:
        fleet = Fleet(running)
        progress(f"{plan.hosts} hosts load {plan.model}")
        fleet.everybody("open", model=plan.model, dtype=plan.dtype)
        progress("profile: pieces of a layer")
        strategies = [strategy.spec() for strategy in plan.strategies]
        answers = fleet.everybody("pieces", strategies=strategies, devices=plan.hosts, rows=list(rows))
        profiles = [from_plain(answer["profile"]) for answer in answers]
        if plan.hosts > 1:
            progress("profile: exchanges")
            links = links_of(_exchanges(fleet, cluster, plan), plan.hosts)
            profiles = [dataclasses.replace(profile, **links) for profile in profiles]
        fleet.end()
        running.wait(_GOODBYE_S)
    return tuple(profiles)


def _exchanges(fleet: Fleet, cluster: Cluster, plan: Plan) -> list[Exchange]:
    found = []
    for mbps in sorted({min(plan.mbps), max(plan.mbps)}):
        cluster.set_rate(mbps)
        for size in (SMALL, LARGE):
            answers = fleet.everybody("exchange", size=size)
            # Of the slowest host: that the others wait for it is no cost of the wire.
            loud, quiet = (max(answer[name] for answer in answers) for name in ("loud", "quiet"))
            found.append(Exchange(mbps, size * (plan.hosts - 1), loud - quiet))
    return found


def links_of(exchanges: Sequence[Exchange], hosts: int) -> dict[str, float]:
    """``message_s``, ``byte_s`` and ``efficiency`` of a profile, from small and large gathers at one rate or two."""
    slow, fast = min(e.mbps for e in exchanges), max(e.mbps for e in exchanges)
    least, most = min(e.sent for e in exchanges), max(e.sent for e in exchanges)
    at = lambda mbps, sent: next(e.seconds for e in exchanges if (e.mbps, e.sent) == (mbps, sent))
    small = statistics.median(e.seconds for e in exchanges if e.sent == least)
    message_s = max(0.0, small) / (hosts - 1)
    a_byte = lambda mbps: max(at(mbps, most) - at(mbps, least), 0.0) / (most - least)
    if slow == fast:
        return {"message_s": message_s, "byte_s": 0.0, "efficiency": min(1.0, 8e-6 / slow / max(a_byte(slow), 1e-12))}
    # Two equations: a byte takes byte_s + 8e-6 / (efficiency x rate) at each rate.
    inverse = (a_byte(slow) - a_byte(fast)) / (8e-6 / slow - 8e-6 / fast)
    inverse = max(1.0, inverse)
    return {
        "message_s": message_s,
        "byte_s": max(0.0, a_byte(fast) - inverse * 8e-6 / fast),
        "efficiency": 1 / inverse,
    }
