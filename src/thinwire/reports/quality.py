"""Perplexity against bits: the table for a terminal and for Markdown, and the picture."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from thinwire.reports.plots import LIGHT

COLUMNS = ("strategy", "preset", "bits", "compression", "perplexity", "change", "± s.e.", "KL", "context kept")
_LEFT = ("strategy", "preset")
Row = Mapping[str, Any]


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is shown; perplexity changes in per cent, KL in nats a token."""
    sent = row["bits_per_token_per_layer"] > 0
    return (
        row["strategy"],
        row["preset"] or "",
        f"{row['bits_per_token_per_layer']:.4g}",
        f"{row['compression']:.4g}x" if sent else "–",
        f"{row['perplexity']:.2f}",
        f"{100 * (row['perplexity_ratio'] - 1):+.2f} %",
        f"{100 * row['standard_error']:.2f} %",
        f"{row['kl_to_single']:.4f}",
        f"{100 * row['context_kept']:.1f} %",
    )


def quality_table(rows: Sequence[Row], title: str) -> Table:
    """The rows for a terminal."""
    table = Table(title=title)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in _LEFT else "right")
    for row in rows:
        table.add_row(*cells(row))
    return table


def quality_markdown(document: Mapping[str, Any]) -> str:
    """The rows under a heading with the command and everything that they depend on."""
    rows = document["rows"]
    split = " + ".join(map(str, document["split"]))
    head = [
        f"{rows[0]['windows']} windows of {document['tokens']} tokens (split {split}) of {document['text']}, held-out "
        f"part, seed {document['seed']}; {document['model']}, {document['devices']} devices ({document['emulated']}), "
        f"float32; thinwire {document['thinwire']}, jax {document['jax']}, python {document['python']}.",
        "",
        "```sh",
        document["command"],
        "```",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join("---" if name in _LEFT else "---:" for name in COLUMNS) + "|",
    ]
    body = ["| " + " | ".join([f"`{row['strategy']}`", *cells(row)[1:]]) + " |" for row in rows]
    return "\n".join([*head, *body]) + "\n"


def quality_figure(rows: Sequence[Row], title: str) -> Figure:
    """Change of perplexity over bits a token and layer, with standard errors; presets are joined."""
    theme = LIGHT
    figure = Figure(figsize=(8.0, 5.0), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(theme.paper)
    sent = [row for row in rows if row["bits_per_token_per_layer"] > 0]
    named = sorted((r for r in sent if r["preset"] not in (None, "paper")), key=lambda r: r["bits_per_token_per_layer"])
    others = [row for row in sent if row not in named]
    for group, colour, joined in ((others, theme.faint, False), (named, theme.palette[0], True)):
        x = [row["bits_per_token_per_layer"] for row in group]
        y = [100 * (row["perplexity_ratio"] - 1) for row in group]
        error = [0.0 if math.isnan(row["standard_error"]) else 100 * row["standard_error"] for row in group]
        axes.errorbar(x, y, error, fmt="o-" if joined else "o", color=colour, capsize=2, lw=1.5)
        for row, a, b in zip(group, x, y, strict=True):
            label = row["preset"] or row["strategy"].split(":", 1)[1]
            axes.annotate(label, (a, b), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)
    for row in rows:
        if not row["bits_per_token_per_layer"]:
            axes.axhline(100 * (row["perplexity_ratio"] - 1), color=theme.faint, ls=":", lw=1)
            style = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom", "fontsize": 8}
            axes.annotate("no remote context", (0.99, 100 * (row["perplexity_ratio"] - 1)), color=theme.faint, **style)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("bits a token and layer", color=theme.ink)
    axes.set_ylabel("change of perplexity, %", color=theme.ink)
    axes.grid(color=theme.grid)
    axes.set_title(title, loc="left", color=theme.ink, fontsize=10)
    return figure
