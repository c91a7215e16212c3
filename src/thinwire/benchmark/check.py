"""Measured rows of a benchmark beside what the latency model says of them, from profiles alone."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.planning.latency import predict_latency, waiting
from thinwire.planning.profile import Profile
from thinwire.strategies import parse_strategy
from thinwire.strategies.work import traffic_of, work_of

_NEEDED = ("strategy", "hosts", "cpu", "tokens", "mbps", "total_s")


def checked(
    rows: Sequence[Mapping[str, Any]],
    profiles: Mapping[float | int, Sequence[Profile]],
    dims: ModelDims,
    split: tuple[float, ...] | None = None,
) -> list[dict[str, Any]]:
    """A row for each measured one: its seconds, the predicted ones and their parts on the slowest host.

    The measured seconds are looked at only to be put beside the predicted ones.

    Args:
        rows: of ``measure``, or of the file of ``thinwire bench --json``; disturbed ones are left out.
        profiles: of the hosts, by rate; a row of the single device is host 0's.
        dims: of the model that ran.
        split: of the tokens, as it was.

    Raises:
        ThinwireError: a row is predicted itself or none of a benchmark, there are fewer profiles than hosts, or a
            codec was not profiled.
    """
    found = []
    for row in rows:
        missing = [name for name in _NEEDED if name not in row]
        if missing:
            raise ThinwireError(f"a row of the benchmark has no {', '.join(missing)}: give a file of thinwire bench.")
        if not row.get("measured", True):
            raise ThinwireError("these rows were predicted, not measured: there is nothing to check a prediction by.")
        if not row.get("disturbance"):
            if row["mbps"] not in profiles:
                raise ThinwireError(f"there is no profile at {row['mbps']:g} Mbps: profile the hosts at that rate.")
            found.append(_checked(row, profiles[row["mbps"]], dims, split))
    return found


def _checked(
    row: Mapping[str, Any], profiles: Sequence[Profile], dims: ModelDims, split: tuple[float, ...] | None
) -> dict[str, Any]:
    strategy, hosts, tokens, mbps = parse_strategy(row["strategy"]), row["hosts"], row["tokens"], row["mbps"]
    if hosts > len(profiles):
        raise ThinwireError(f"there are {hosts} hosts and {len(profiles)} profiles: profile as many hosts.")
    shares = split if hosts > 1 else None
    work = work_of(strategy, dims, tokens, hosts, shares)
    streams = row.get("exchange") == "streams"
    traffic = traffic_of(strategy, dims, tokens, hosts, shares, streams)
    here = profiles[:hosts]
    predicted = predict_latency(work, traffic, here, mbps)
    slowest, (wire_s, messages_s) = waiting(work, traffic, here, mbps)
    parts = {**here[slowest].parts_s(work[slowest]), "wire": wire_s, "messages": messages_s}
    return {
        **{name: row[name] for name in ("strategy", "hosts", "tokens", "mbps")},
        "cpu": list(row["cpu"]),
        "measured_s": row["total_s"],
        "measured_spread_s": row.get("spread_s"),
        "measured_compute_s": row.get("compute_s"),
        "predicted_s": predicted,
        "ratio": predicted / row["total_s"],
        "predicted_parts_s": parts,
    }


def errors_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far predictions are from measurements: median, 90th percentile and largest of |predicted / measured - 1|."""
    errors = sorted(abs(row["ratio"] - 1) for row in rows)
    if not errors:
        raise ThinwireError("there are no measured rows to check a prediction by.")
    return {
        "rows": len(errors),
        "median_error": statistics.median(errors),
        "p90_error": errors[min(len(errors) - 1, round(0.9 * (len(errors) - 1)))],
        "largest_error": errors[-1],
        "median_ratio": statistics.median(row["ratio"] for row in rows),
    }
