"""An ablation: its table for a terminal and for Markdown, and its plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.terminal import plain_table

COLUMNS = ("changed", "strategy", "seeds", "one device", "accuracy", "± s.d.", "drop", "± s.d.", "against the first")
_LEFT = ("changed", "strategy")
Row = Mapping[str, Any]


def by_variant(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean and spread over seeds, in the order of the rows; the difference is of the seeds that both have."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    of = {name: {row["seed"]: row for row in rows if row["variant"] == name} for name in names}
    first, found = of[names[0]] if names else {}, []
    for name in names:
        accuracies = np.array([row["accuracy"] for row in of[name].values()])
        alone = np.array([row["accuracy_single"] for row in of[name].values()])
        both = [seed for seed in of[name] if seed in first]
        apart = np.array([of[name][seed]["accuracy"] - first[seed]["accuracy"] for seed in both])
        found.append(
            {
                "variant": name,
                "strategy": next(iter(of[name].values()))["strategy"],
                "seeds": len(accuracies),
                "accuracy_single": float(alone.mean()),
                "accuracy": float(accuracies.mean()),
                "spread": _spread(accuracies),
                "drop": float((alone - accuracies).mean()),
                "spread_of_drop": _spread(alone - accuracies),
                "difference": float(apart.mean()) if len(apart) and name != names[0] else None,
            }
        )
    return found


def _spread(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is shown, in per cent and points."""
    points = lambda x, sign="": "–" if x is None else f"{100 * x:{sign}.2f}"
    return (
        row["variant"],
        row["strategy"],
        str(row["seeds"]),
        f"{points(row['accuracy_single'])} %",
        f"{points(row['accuracy'])} %",
        points(row["spread"]),
        points(row["drop"], "+"),
        points(row["spread_of_drop"]),
        points(row["difference"], "+"),
    )


def ablation_table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    return plain_table("One thing changed at a time", COLUMNS, map(cells, by_variant(rows)), _LEFT)


def ablation_markdown(document: Mapping[str, Any]) -> str:
    """The table with the command and what it depends on."""
    rows = document["rows"]
    what = (
        f"`{document['config']}` with one thing changed at a time, {rows[0]['steps']} steps each, accuracy on "
        f"{rows[0]['images']} test images by {rows[0]['devices']} virtual devices, means over seeds"
    )
    body = [[row["variant"], f"`{row['strategy']}`", *cells(row)[2:]] for row in by_variant(rows)]
    return markdown_head(document, what) + markdown_table(COLUMNS, body, _LEFT)


def ablation_plot(rows: Sequence[Row]) -> Figure:
    """Every training as a point, every variant's mean as a line."""
    means = by_variant(rows)
    figure = Figure(figsize=(7, 0.35 * len(means) + 1.2), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(means):
        points = [100 * one["accuracy"] for one in rows if one["variant"] == row["variant"]]
        axes.plot(points, [at] * len(points), "o", color="C0", alpha=0.7)
        axes.plot([100 * row["accuracy"]] * 2, [at - 0.35, at + 0.35], color="C1")
    axes.set_yticks(range(len(means)), [row["variant"] for row in means])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %")
    figure.suptitle("One thing changed at a time: every training, and the mean", x=0.01, ha="left", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    return figure
