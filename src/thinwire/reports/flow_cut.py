"""One compressor in several places of a model: loss against bits a tensor, and against bits of the whole model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import LIGHT, Theme
from thinwire.reports.rows import Row

# What a loss is of, for a heading and for an axis; all are told in hundredths.
LOSSES = {
    "perplexity": ("perplexity, change", "perplexity above the single device's"),
    "accuracy": ("accuracy lost", "accuracy lost, of 100 images"),
    "cosine": ("1 − cosine", "1 − cosine of the class feature"),
}
WORDS = {
    "residual": "residual stream",
    "sums": "sums before they are added",
    "all_kv": "all keys and values",
    "remote_kv": "remote keys and values",
}
EXACT = 0.01  # hundredths: below this a loss is none, to the eye
MEANING = (
    "*bits a tensor*: of a token in each tensor that is coded; *whole model*: in all tensors together. The same "
    "codec, with codebooks learnt at that place from the same text, unchanged weights. Token 0 of a causal model is "
    "exact in all places. Residual stream: a cut, every way from input to output crosses it."
)


def name_of(row: Row) -> str:
    """A place in words; how many layers lie between two cuts belongs to it."""
    if row["place"] == "residual":
        return WORDS["residual"] + (f", a cut every {row['every']} layers" if row["every"] > 1 else ", a cut a layer")
    return WORDS[row["place"]] + (", after prediction" if row["predicts"] else "")


def loss_of(row: Row) -> str:
    """``+0.43 ± 0.14 %``."""
    error = row["loss_error"]
    spread = "" if error is None or error != error else f" ± {100 * error:.2f}"
    return f"{100 * row['loss']:+.2f}{spread} %"


def within_budgets(rows: Sequence[Row]) -> list[tuple[Row, dict[str, Row | None]]]:
    """For each row of remote keys and values: of every place the row that loses least with no more bits in all."""
    names = list(dict.fromkeys(map(name_of, rows)))
    found = []
    for own in sorted(rows, key=lambda row: row["bits_whole"]):
        if own["place"] == "remote_kv":
            affordable = [row for row in rows if row["bits_whole"] <= own["bits_whole"]]
            best = {
                name: min(
                    (row for row in affordable if name_of(row) == name), key=lambda row: row["loss"], default=None
                )
                for name in names
            }
            found.append((own, best))
    return found


def flow_cut_markdown(document: Mapping[str, Any], what: str) -> str:
    """All rows; the places side by side at equal bits a tensor; the best of each within equal bits of the model."""
    rows, (heading, _) = document["rows"], LOSSES[document["measure"]]
    names = list(dict.fromkeys(map(name_of, rows)))
    headings = ("codec", "place", "tensors", "bits a tensor", "whole model", heading)
    body = [
        [
            f"`{row['codec']}`",
            name_of(row),
            f"{row['tensors']}",
            f"{row['bits_per_tensor']:.4g}",
            f"{row['bits_whole']:,.0f}",
            loss_of(row),
        ]
        for row in rows
    ]
    text = markdown_head(document, what) + markdown_table(headings, body, ["place"])
    budgets = within_budgets(rows)
    if budgets:
        text += f"\nLeast {heading} of each place within so many bits of the whole model:\n\n"
        cell = lambda row: "–" if row is None else f"{loss_of(row)} (`{row['codec']}`)"
        text += markdown_table(
            ["bits", *names],
            [[f"{own['bits_whole']:,.0f}", *(cell(best[name]) for name in names)] for own, best in budgets],
        )
    return f"{text}\n{MEANING}\n"


def flow_cut_plot(document: Mapping[str, Any], subtitle: str, theme: Theme = LIGHT) -> Figure:
    """Loss over bits a tensor, and over bits of the whole model; a line a place."""
    figure = Figure(figsize=(11.0, 5.8), facecolor=theme.paper)
    FigureCanvasAgg(figure)
    title = "The same compressor in several places"
    figure.text(0.012, 0.98, title, fontsize=13, fontweight="bold", color=theme.ink, ha="left", va="top")
    figure.text(0.012, 0.92, subtitle, fontsize=9.5, color=theme.faint, ha="left", va="top")
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.085, right=0.985, top=0.86, bottom=0.2, wspace=0.06)
    rows = document["rows"]
    for axes, x, words in (
        (panels[0], "bits_per_tensor", "bits of a token in each coded tensor"),
        (panels[1], "bits_whole", "bits of a token in the whole model"),
    ):
        for colour, name in zip(theme.palette, dict.fromkeys(map(name_of, rows)), strict=False):
            of_place = sorted((row for row in rows if name_of(row) == name), key=lambda row: row[x])
            at, loss = [row[x] for row in of_place], [100 * row["loss"] for row in of_place]
            axes.plot(
                at, loss, "-o", color=colour, markersize=6, markeredgecolor=theme.paper, linewidth=1.4, label=name
            )
        _dress(axes, words, told_apart(rows), theme)
    panels[0].set_ylabel(LOSSES[document["measure"]][1], color=theme.ink)
    legend_below(figure, panels[0], theme)
    return figure


def legend_below(figure: Figure, axes: Axes, theme: Theme, columns: int = 3) -> None:
    """What the lines are, under the picture, where they cover none."""
    lines, names = axes.get_legend_handles_labels()
    figure.legend(
        lines, names, loc="lower left", bbox_to_anchor=(0.07, 0.005), ncols=columns, frameon=False, fontsize=8.5,
        labelcolor=theme.ink,
    )  # fmt: skip


def told_apart(rows: Sequence[Row]) -> float:
    """Hundredths below which losses are drawn to scale, others by logarithm: the power of 10 at the least error."""
    errors = [100 * row["loss_error"] for row in rows if row["loss_error"] is not None and row["loss_error"] > 0]
    return max(EXACT, 10.0 ** math.ceil(math.log10(min(errors, default=EXACT))))


def _dress(axes: Axes, words: str, linear: float, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=linear, linscale=0.4)
    axes.axhline(0, color=theme.ink, linewidth=1.2, zorder=1)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.tick_params(colors=theme.faint, labelsize=9, length=0)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "equal"))
    axes.set_xlabel(words, color=theme.ink)


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
