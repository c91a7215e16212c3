"""Lost codes: what each rate of loss costs, by strategy and by what a receiver does about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from thinwire.reports.flow_cut import LOSSES, legend_below, loss_of
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import LIGHT, Theme, canvas
from thinwire.reports.rows import Row

WORDS = {
    "mask": "left out of the softmax",
    "mean": "mean of what arrived",
    "predict": "predicted",
}
STROKES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))  # as many as there are repairs
POINTS = ("o", "s", "^", "D", "v")
RISES = {
    "perplexity": "perplexity, beside that without losses",
    "accuracy": "accuracy lost, of 100 images, beside that without losses",
    "cosine": "1 − cosine of the class feature, beside that without losses",
}
MEANING = (
    "*lost*: the part of other devices' codes that does not arrive, drawn for each receiver, layer and token apart, "
    "{draws} draws; nothing is sent again. *rise*: beside the same strategy without losses. A receiver that predicts "
    "goes on from what it put in place of a lost code, so its predictions drift from the sender's; *mended*: it gets "
    "the code too late for that layer's attention and in time for the next layer's prediction."
)


def repair_of(row: Row) -> str:
    """What a receiver does about a lost code, in words."""
    return WORDS[row["repair"]] + (", mended" if row["loop"] == "mended" else "")


def rise_of(row: Row) -> str:
    """``+0.43 ± 0.14 %``; an en dash where nothing is lost."""
    if not row["rate"]:
        return "–"
    return loss_of({"loss": row["rise"], "loss_error": row["rise_error"]})


def lost_markdown(document: Mapping[str, Any], what: str) -> str:
    """A row for each strategy, repair and rate."""
    heading = LOSSES[document["measure"]][0]
    headings = ("strategy", "bits", "lost codes are", "lost", heading, "rise")
    body = [
        [
            f"`{row['strategy']}`",
            f"{row['bits_per_token_per_layer']:.4g}",
            repair_of(row) if row["rate"] else "–",
            f"{100 * row['rate']:g} %",
            loss_of(row),
            rise_of(row),
        ]
        for row in document["rows"]
    ]
    meaning = MEANING.format(draws=document["draws"])
    return f"{markdown_head(document, what)}{markdown_table(headings, body, ['lost codes are'])}\n{meaning}\n"


def lost_plot(document: Mapping[str, Any], subtitle: str, theme: Theme = LIGHT) -> Figure:
    """What losses add, over the part of codes that is lost: colours are strategies, strokes are repairs."""
    figure, axes = canvas(theme, "Lost codes", subtitle)
    rows: Sequence[Row] = [row for row in document["rows"] if row["rate"]]
    names = list(dict.fromkeys((row["strategy"], repair_of(row)) for row in rows))
    strategies, repairs = (list(dict.fromkeys(name[part] for name in names)) for part in (0, 1))
    beside = 0.05 * min((100 * row["rate"] for row in rows), default=1.0)  # so that error bars do not cover each other
    for i, (strategy, repair) in enumerate(names):
        line = [row for row in rows if (row["strategy"], repair_of(row)) == (strategy, repair)]
        line.sort(key=lambda row: row["rate"])
        shift = beside * (i - (len(names) - 1) / 2)
        axes.errorbar(
            [0.0, *(100 * row["rate"] + shift for row in line)], [0.0, *(100 * row["rise"] for row in line)],
            [0.0, *(100 * (row["rise_error"] or 0.0) for row in line)],
            color=theme.palette[strategies.index(strategy) % len(theme.palette)],
            linestyle=STROKES[repairs.index(repair) % len(STROKES)], marker=POINTS[repairs.index(repair) % len(POINTS)],
            markersize=5, linewidth=1.3, elinewidth=0.7, capsize=2,
            label=f"{strategy.removeprefix('sequence:')}: {repair}",
        )  # fmt: skip
    axes.axhline(0, color=theme.ink, linewidth=1.2, zorder=1)
    axes.set_xlabel("codes lost")
    axes.set_ylabel(RISES[document["measure"]])
    percent = FuncFormatter(lambda value, _: f"{value:g} %")
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    figure.set_figheight(5.2 + 0.2 * len(names))
    figure.subplots_adjust(bottom=(0.75 + 0.21 * len(names)) / figure.get_figheight())
    legend_below(figure, axes, theme, columns=1)
    return figure
