"""A row of a benchmark: what a strategy computes and sends, what it took, and how far that is from the floor."""

import dataclasses
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.benchmark.floor import floor_s, link_s, model_flops
from thinwire.benchmark.peers import PeerProcess
from thinwire.benchmark.plan import Plan
from thinwire.engine import Engine

BASELINES = ("single", "sequence:float32", "tensor:float32")
VS_PEER = "speedup_vs_peer_"
_NOT_OF_PEERS = (
    "compute_s", "busy_s", "cpu_s", "stolen_s", "wire_s", "link_s", "encode_s", "decode_s", "floor_s", "ratio_to_floor",
    "bytes_ledger", "bytes_interface", "packets_interface", "messages", "flops_per_second", "passes", "round_trip_s",
    "same_output",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TimedPass:
    """Seconds of a pass, and FLOP/s of a matrix product on each host just before and after."""

    seconds: float
    flops_per_second: tuple[float, ...]


def facts_of(engine: Engine, tokens: int) -> dict[str, Any]:
    """What a strategy's pass over so many tokens computes and sends, by formula; ready for JSON."""
    strategy, traffic = engine.strategy, engine.traffic(tokens)
    return {
        "strategy": strategy.spec(),
        "codec": strategy.codec.spec() if strategy.sites_coded() else "",
        "bits_per_token_per_layer": strategy.bits_per_token(engine.dims),
        "hosts": engine.devices,
        "model_flops": list(model_flops(strategy, engine.dims, tokens, engine.devices, engine.shares(tokens))),
        "bytes_by_device": list(traffic.bytes_by_device),
        "messages_by_device": list(traffic.messages_by_device),
        "rounds": traffic.rounds,
        "exchange": engine.exchange,
    }


def row(
    plan: Plan,
    facts: dict[str, Any],
    tokens: int,
    mbps: float | int,
    passes: Sequence[TimedPass],
    compute_s: float,
    round_trip_s: float,
    **more: Any,
) -> dict[str, Any]:
    """The row of one strategy, length and rate; medians, each pass beside the floor at its own pace.

    Args:
        facts: of ``facts_of``.
        passes: of all that run the strategy.
        compute_s: of the local work alone.
        round_trip_s: between two hosts.
        more: further columns.
    """
    sent, flops, rounds = facts["bytes_by_device"], facts["model_flops"], facts["rounds"]
    total_s = statistics.median(one.seconds for one in passes)
    floors = [floor_s(flops, one.flops_per_second, sent, mbps, rounds, round_trip_s) for one in passes]
    return {
        **{name: facts[name] for name in ("strategy", "codec", "bits_per_token_per_layer", "hosts", "exchange")},
        "cpu": list(plan.cpu),
        "mbps": mbps,
        "tokens": tokens,
        "dtype": plan.dtype,
        "total_s": total_s,
        "compute_s": compute_s,
        "wire_s": max(0.0, total_s - compute_s),
        "link_s": link_s(sent, mbps, rounds, round_trip_s),
        "floor_s": statistics.median(floors),
        "ratio_to_floor": statistics.median(one.seconds / floor for one, floor in zip(passes, floors, strict=True)),
        "bytes_ledger": max(sent),
        "messages": max(facts["messages_by_device"]),
        "flops_per_second": statistics.median(min(one.flops_per_second) for one in passes),
        "passes": [{"seconds": one.seconds, "flops_per_second": list(one.flops_per_second)} for one in passes],
        "round_trip_s": round_trip_s,
        **more,
    }


def peer_row(peer: PeerProcess, plan: Plan, tokens: int, mbps: float | int, **more: Any) -> dict[str, Any]:
    """The row of a peer: what does not apply to another program is None.

    Args:
        more: what was measured: at least ``total_s``.
    """
    return {
        "strategy": peer.peer.name,
        "codec": "",
        "bits_per_token_per_layer": None,
        "hosts": 1,
        "exchange": "",
        "cpu": list(plan.cpu[:1]),
        "mbps": mbps,
        "tokens": tokens,
        "dtype": peer.facts.get("dtype"),
        **dict.fromkeys(_NOT_OF_PEERS),
        "peer": {**peer.facts, "command": shlex.join(peer.peer.command)},
        **more,
    }


def with_speedups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one rate and length with their speedups over the baselines and peers among them."""
    seconds = {row["strategy"]: row["total_s"] for row in rows}
    single = next((row for row in rows if row["strategy"] == "single"), {})
    busy_s = single.get("busy_s")
    over = {f"speedup_vs_{spec.replace(':', '_')}": spec for spec in BASELINES}
    over |= {f"{VS_PEER}{row['strategy']}": row["strategy"] for row in rows if row.get("peer")}
    for one in rows:
        for name, spec in over.items():
            one[name] = seconds[spec] / one["total_s"] if spec in seconds else None
        one["speedup_vs_busy_single"] = busy_s / one["total_s"] if busy_s else None
        one["speedup_at_equal_pace"] = _at_equal_pace(single, one)
    return rows


def _at_equal_pace(single: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    """The speedup over the single device, turn by turn, had it run at the pace that host 0 had in the row's pass."""
    if not (single.get("passes") and row.get("passes")):
        return None
    work = lambda one: one["seconds"] * one["flops_per_second"][0]
    return statistics.median(work(a) / work(b) for a, b in zip(single["passes"], row["passes"], strict=True))
