"""Where a profiled pass spent its time, as a table."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from thinwire.reports.rows import as_mbps, as_percent, as_seconds

LEAST_SHARE = 0.002  # of the pass: smaller scopes are left out


def profile_title(row: Mapping[str, Any]) -> str:
    """What was profiled, and where its files are."""
    rate = f", {as_mbps(row['mbps'])}" if row["measured"] else ""
    took = as_seconds(row["profile"]["pass_s"])
    return f"{row['strategy']}, {row['tokens']:,} tokens{rate}: {took}, in {row['profile']['folder']}"


def profile_table(row: Mapping[str, Any]) -> Table:
    """Seconds by named scope of a row's profile, largest first; the file beside the trace has all of them."""
    found = row["profile"]
    several = row["measured"] and row["hosts"] > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("scope", overflow="fold", min_width=28)
    for name in ("most", "least", "of the pass") if several else ("seconds", "of the pass"):
        table.add_column(name, justify="right")
    for scope, seconds in found["scopes"].items():
        share = seconds["most_s"] / found["pass_s"]
        if share >= LEAST_SHARE:
            times = [as_seconds(seconds["most_s"]), *([as_seconds(seconds["least_s"])] if several else [])]
            table.add_row(scope, *times, as_percent(share))
    return table
