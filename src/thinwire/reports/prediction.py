"""Predicted beside measured seconds: the table for a terminal and for Markdown, and the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from rich import box
from rich.table import Table

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import LIGHT, Theme, canvas
from thinwire.reports.rows import Row, as_percent, as_seconds, significant

GROUPS = ("strategy", "hosts", "tokens", "mbps", "model")
COLUMNS = ("model", "strategy", "hosts", "tokens", "Mbps", "measured", "±", "predicted", "ratio", "of it on the wire")


def cells(row: Row) -> list[str]:
    """A row as it is shown."""
    parts = row["predicted_parts_s"]
    return [
        row["model"].removeprefix("shape:"),
        row["strategy"],
        f"{row['hosts']}",
        f"{row['tokens']:,}",
        f"{row['mbps']:g}",
        as_seconds(row["measured_s"]),
        as_seconds(row["measured_spread_s"]),
        as_seconds(row["predicted_s"]),
        f"{row['ratio']:.2f}",
        as_percent((parts["wire"] + parts["messages"]) / row["predicted_s"]),
    ]


def prediction_table(rows: Sequence[Row], title: str) -> Table:
    """The rows for a terminal."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for n, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if n < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*cells(row))
    return table


def summary(errors: Mapping[str, Any]) -> str:
    """The errors in a sentence."""
    return (
        f"{errors['rows']} rows: median error {as_percent(errors['median_error'])}, 90th percentile "
        f"{as_percent(errors['p90_error'])}, largest {as_percent(errors['largest_error'])}; median of predicted / "
        f"measured {significant(errors['median_ratio'])}."
    )


def prediction_markdown(document: Mapping[str, Any]) -> str:
    """The rows below what was measured and how, and the errors by what the rows have in common."""
    head = markdown_head(document, document["what"])
    by = markdown_table(
        ["rows with", "rows", "median error", "median ratio"],
        [
            [f"`{one['of']}`", f"{one['rows']}", as_percent(one["median_error"]), f"{one['median_ratio']:.2f}"]
            for one in document["by"]
        ],
    )
    body = [[f"`{cells(row)[0]}`", f"`{cells(row)[1]}`", *cells(row)[2:]] for row in document["rows"]]
    table = markdown_table(list(COLUMNS), body, ["strategy"])
    return f"{head}**{summary(document['errors'])}**\n\n{by}\n{table}\n{document['model_of_latency']}.\n"


def prediction_plot(rows: Sequence[Row], errors: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Predicted against measured seconds, both logarithmic; a band of 15 % around equality."""
    figure, axes = canvas(theme, "Predicted against measured", summary(errors), left=0.09, right=0.67)
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    low = min(min(row["measured_s"], row["predicted_s"]) for row in rows) / 1.3
    high = max(max(row["measured_s"], row["predicted_s"]) for row in rows) * 1.3
    axes.fill_between([low, high], [0.85 * low, 0.85 * high], [1.15 * low, 1.15 * high], color=theme.grid, zorder=1)
    axes.plot([low, high], [low, high], color=theme.ink, linewidth=1.2, zorder=2)
    for n, name in enumerate(names):
        for hosts, marker in zip(sorted({row["hosts"] for row in rows}), "oos^Dv", strict=False):
            chosen = [row for row in rows if (row["strategy"], row["hosts"]) == (name, hosts)]
            label = f"{name}, {hosts} host{'s' * (hosts > 1)}"
            if chosen:
                axes.plot(
                    [row["measured_s"] for row in chosen], [row["predicted_s"] for row in chosen], marker, linestyle="",
                    color=theme.ink if hosts == 1 else theme.palette[(n - 1) % len(theme.palette)], markersize=6,
                    markeredgecolor=theme.paper, markeredgewidth=0.6, zorder=3, label=label,
                )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        ticks = [s * 10.0**e for e in range(-5, 5) for s in (1, 2, 5) if low <= s * 10.0**e <= high]
        axis.set_ticks(ticks)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{significant(value, 1)} s"))
    axes.set_xlabel("measured seconds of a forward; the band is 15 % around equal")
    axes.set_ylabel("predicted seconds")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7.5, frameon=False, labelcolor=theme.ink)
    return figure
