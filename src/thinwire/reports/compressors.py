"""Compressors side by side at the same bits: the table and the picture."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from thinwire.reports.flow_cut import LOSSES, loss_of
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import LIGHT, Theme, canvas
from thinwire.reports.rows import Row

MEANING = (
    "*bits*: of a token and layer, codes only. All code other devices' keys and values before rotation, with the same "
    "token 0 and halo. `drop` sends nothing: a codec that loses more does harm."
)


def name_of(row: Row) -> str:
    """The codec, and what the model was fine-tuned as, if it was."""
    return f"{row['codec']} (fine-tuned: {row['tuned']})" if row["tuned"] else str(row["codec"])


def compressors_markdown(document: Mapping[str, Any], what: str) -> str:
    """A row for each codec, the one that loses least first."""
    heading = LOSSES[document["measure"]][0]
    body = [
        [f"`{row['codec']}`", row["tuned"] or "no", f"{row['bits_per_token_per_layer']:.4g}", loss_of(row)]
        for row in document["rows"]
    ]
    table = markdown_table(["codec", "fine-tuned", "bits", heading], body, ["fine-tuned"])
    return f"{markdown_head(document, what)}{table}\n{MEANING}\n"


def compressors_plot(document: Mapping[str, Any], subtitle: str, theme: Theme = LIGHT) -> Figure:
    """A bar a codec, the one that loses least on top; what sends nothing is a broken line."""
    rows = [row for row in document["rows"] if row["bits_per_token_per_layer"] > 0]
    dropped = [row for row in document["rows"] if not row["bits_per_token_per_layer"]]
    longest = max((len(name_of(row)) for row in rows), default=0)
    figure, axes = canvas(theme, "Compressors at the same bits", subtitle, left=min(0.5, 0.06 + 0.0085 * longest))
    figure.set_figheight(max(3.5, 1.6 + 0.28 * len(rows)))
    at = range(len(rows))
    colours = [theme.palette[0] if row["predicts"] else theme.palette[1] for row in rows]
    axes.barh(at, [100 * row["loss"] for row in rows], color=colours, height=0.65, zorder=2)
    for i, row in zip(at, rows, strict=True):
        text = f" {loss_of(row)}, {row['bits_per_token_per_layer']:.4g} bits"
        behind = {"facecolor": theme.paper, "edgecolor": "none", "pad": 0.5}
        axes.text(max(0.0, 100 * row["loss"]), i, text, va="center", fontsize=8, color=theme.ink, bbox=behind)
    for row in dropped:
        axes.axvline(
            100 * row["loss"],
            color=theme.faint,
            linestyle=":" if row["predicts"] else "--",
            label=row["codec"],
            zorder=1,
        )
    bars = [Patch(color=theme.palette[0], label="after a prediction"), Patch(color=theme.palette[1], label="without")]
    axes.legend(
        handles=[*bars, *axes.get_legend_handles_labels()[0]],
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=8.5, labelcolor=theme.ink,
    )  # fmt: skip
    axes.set_yticks(list(at), [name_of(row) for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1.0)
    right = max([1.0, *(100 * row["loss"] for row in document["rows"])])
    axes.set_xlim(min([0.0, *(150 * row["loss"] for row in rows)]), right * 30)  # room for what is written
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel(LOSSES[document["measure"]][1])
    return figure
