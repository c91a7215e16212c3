"""Two pictures of a comparison: quality against bits, and predicted latency against bandwidth.

Nothing global is touched: no pyplot, no rcParams, so a report can be drawn from any thread. Colour says what is sent
(the codec), marker and dash say how the work is split (the strategy), and every line is labelled where it ends.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from thinwire.reports.files import write_bytes
from thinwire.reports.labels import Label, place_beside_points, spread_left
from thinwire.reports.rows import Row, family, in_order, is_single, number, predictions, significant


@dataclass(frozen=True)
class Theme:
    """Colours of one look. `palette` stays apart for the common kinds of colour blindness (after Okabe and Ito)."""

    ink: str
    faint: str
    grid: str
    paper: str
    palette: tuple[str, ...]


LIGHT = Theme(
    ink="#1d2430",
    faint="#667085",
    grid="#e3e7ee",
    paper="#ffffff",
    palette=("#0072b2", "#d55e00", "#009e73", "#a4508b", "#b8860b", "#3ba3dc", "#7a5230", "#5f6b7a"),
)
DARK = Theme(
    ink="#e6eaf2",
    faint="#98a2b3",
    grid="#2b3444",
    paper="#141a24",
    palette=("#4ba3e3", "#ff8c42", "#2fc79a", "#e08ac4", "#e8c33c", "#8fd0f7", "#c79a6b", "#aab4c3"),
)

HOLLOW = {"ring"}  # drawn around what it may share a place with: a ring sends what its sequence sends
MARKERS = {"sequence": "o", "ring": "^", "tensor": "s", "block": "D"}
DASHES: dict[str, tuple[float, ...]] = {"ring": (1.2, 1.6), "tensor": (4.5, 2.0), "block": (5.0, 1.6, 1.2, 1.6)}

EXACT_PERCENT = 0.01  # below this the perplexity is the single device's, to the eye


def quality_plot(
    rows: Sequence[Row],
    theme: Theme = LIGHT,
    subtitle: str = "fewer bits and less loss: down and to the left is better",
) -> Figure:
    """Perplexity against the single device's over bits a token and layer.

    One marker a row, with its standard error where the row has one, kin rows joined; a row that sends nothing is a
    dotted line.
    """
    figure, axes = canvas(theme, "Quality against bits", subtitle)
    points = [
        (row, bits, 100 * (ratio - 1))
        for row in in_order(rows)
        if not is_single(row)
        and (bits := number(row, "bits_per_token_per_layer"))
        and (ratio := number(row, "perplexity_ratio")) is not None
    ]
    colours = _colours(rows, theme)
    axes.axhline(0, color=theme.ink, linewidth=1.2, zorder=1)
    for kin in _kin(points):
        axes.plot([b for _, b, _ in kin], [p for _, _, p in kin], color=theme.faint, linewidth=1, alpha=0.5, zorder=2)
    for row, bits, percent in points:
        colour, hollow = colours[_codec(row)], family(row) in HOLLOW
        axes.plot(
            [bits], [percent], MARKERS.get(family(row), "P"), markersize=13 if hollow else 8,
            markerfacecolor="none" if hollow else colour, markeredgecolor=colour if hollow else theme.paper,
            markeredgewidth=1.2, zorder=3, label=str(row.get("strategy")), clip_on=False,
        )  # fmt: skip
        error = number(row, "standard_error")
        if error:
            axes.errorbar([bits], [percent], [100 * error], color=colour, elinewidth=1, capsize=2, zorder=2)
    silent = [
        (row, 100 * (ratio - 1))
        for row in in_order(rows)
        if not is_single(row)
        and number(row, "bits_per_token_per_layer") == 0
        and (ratio := number(row, "perplexity_ratio")) is not None
    ]
    for row, percent in silent:
        axes.axhline(percent, color=theme.faint, linewidth=1, linestyle=":", label=str(row.get("strategy")))
        axes.text(
            0.996, percent, f"{_short(row)}: nothing sent", transform=axes.get_yaxis_transform(), ha="right",
            va="bottom", fontsize=8, color=theme.faint,
        )  # fmt: skip
    _quality_axes(axes, [bits for _, bits, _ in points], [percent for *_, percent in [*points, *silent]])
    axes.text(
        0.004, 0, "single device", transform=axes.get_yaxis_transform(), ha="left", va="bottom", fontsize=9,
        fontweight="bold", color=theme.ink,
    )  # fmt: skip
    _family_legend(axes, [row for row, _, _ in points], theme)
    place_beside_points(axes, _labels(points, colours), level=0.0)
    return figure


def _labels(points: list[tuple[Row, float, float]], colours: dict[str, str]) -> list[Label]:
    """One label a place: strategies that send the same and lose the same share it."""
    together: dict[tuple[str, int, str], list[tuple[Row, float, float]]] = {}
    for row, bits, percent in points:
        place = (_codec(row), round(20 * math.log10(bits)), f"{percent:.{2 if abs(percent) < 1 else 1}f}")
        together.setdefault(place, []).append((row, bits, percent))
    return [Label(_short(row), bits, percent, colours[_codec(row)]) for (row, bits, percent), *_ in together.values()]


def _quality_axes(axes: Axes, bits: list[float], percents: list[float]) -> None:
    bits, percents = bits or [1.0], percents or [0.0]
    axes.set_xscale("log")
    axes.set_xlim(min(bits) / 1.8, max(bits) * 2.2)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 1)))
    axes.set_xlabel("bits per token and layer")
    # Linear up to EXACT_PERCENT, logarithmic beyond: exact strategies and ruined ones fit one picture.
    axes.set_yscale("symlog", linthresh=EXACT_PERCENT, linscale=0.4)
    decades = [0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    low = min(0.0, *percents) * 2.5 - 0.35 * EXACT_PERCENT
    high = max(0.05, *percents) * 2.5
    axes.set_ylim(low, high)
    ticks = [0.0] + [s * d for d in decades for s in (1, -1) if low <= s * d <= high]
    axes.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_percent_tick))
    axes.set_ylabel("perplexity above the single device's")


def _percent_tick(value: float, _: int) -> str:
    if value == 0:
        return "equal"
    return f"×{significant(1 + value / 100, 2)}" if value >= 1000 else f"{value:+g} %"


def latency_plot(
    rows: Sequence[Row], theme: Theme = LIGHT, how: str = "predicted", title: str = "", subtitle: str = ""
) -> Figure:
    """Latency of one forward over the links' bandwidth, a line a strategy; the single device lies flat.

    Rows have it as ``{how}_latency_s``, by bandwidth: ``how`` is *predicted* or *measured*.
    """
    names = {id(row): "single device" if is_single(row) else _clipped(str(row.get("strategy"))) for row in rows}
    left = 0.07 + 5.6 * max((len(name) for name in names.values()), default=0) / 648  # of a width of 648 points
    title = title or f"{how.capitalize()} latency against bandwidth"
    subtitle = subtitle or "below the thick line is faster than one device"
    figure, axes = canvas(theme, title, subtitle, left=left, right=0.915)
    colours = _colours(rows, theme)
    starts: list[Label] = []
    mbps_seen: set[float] = set()
    for row in in_order(rows):
        curve = {
            mbps: seconds for mbps, seconds in predictions(row, f"{how}_latency_s").items() if mbps > 0 and seconds > 0
        }
        if not curve:
            continue
        mbps_seen |= set(curve)
        single = is_single(row)
        colour = theme.ink if single else colours[_codec(row)]
        (line,) = axes.plot(
            list(curve), list(curve.values()), color=colour, linewidth=2.2 if single else 1.7,
            marker="" if single else MARKERS.get(family(row), "P"), markersize=5, markeredgecolor=theme.paper,
            markeredgewidth=0.6, zorder=4 if single else 3, label=str(row.get("strategy")),
        )  # fmt: skip
        if family(row) in DASHES:
            line.set_dashes(DASHES[family(row)])
        first = min(curve)
        starts.append(Label(names[id(row)], first, curve[first], colour, single))
    axes.set_xscale("log")
    axes.set_yscale("log")
    bandwidths = sorted(mbps_seen) or [10.0, 1000.0]
    axes.set_xlim(bandwidths[0] / 1.06, bandwidths[-1] * 1.06)
    axes.xaxis.set_major_locator(FixedLocator(bandwidths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_locator(FixedLocator(_ticks(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{significant(value, 1)} s"))
    axes.set_xlabel("bandwidth of each link, Mbps")
    axes.set_ylabel(f"{how} seconds for one forward")
    # The lines lie apart where the links are thin, so that is where they are named, and the scale stands on the right.
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    spread_left(axes, starts)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG (or SVG, by the name's ending), atomically."""
    kind: Literal["svg", "png"] = "svg" if Path(path).suffix.lower() == ".svg" else "png"
    return write_bytes(path, figure_bytes(figure, kind))


def figure_bytes(figure: Figure, kind: Literal["svg", "png"] = "png") -> bytes:
    """The picture itself; without a date, so that the same rows give the same file."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=160, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()


def canvas(theme: Theme, title: str, subtitle: str, left: float = 0.105, right: float = 0.97) -> tuple[Figure, Axes]:
    """An empty picture with its title, in the look of all others."""
    figure = Figure(figsize=(9.0, 5.2), facecolor=theme.paper)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.paper)
    figure.subplots_adjust(left=left, right=right, top=0.85, bottom=0.115)  # fixed: labels are placed by what is drawn
    figure.text(0.012, 0.98, title, fontsize=13, fontweight="bold", color=theme.ink, ha="left", va="top")
    figure.text(0.012, 0.92, subtitle, fontsize=9.5, color=theme.faint, ha="left", va="top")
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.tick_params(colors=theme.faint, labelsize=9, length=0)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    return figure, axes


def _family_legend(axes: Axes, rows: list[Row], theme: Theme) -> None:
    families = list(dict.fromkeys(family(row) for row in rows))
    if len(families) < 2:
        return
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=MARKERS.get(name, "P"),
            color=theme.faint,
            markersize=8,
            label=name,
            markerfacecolor="none" if name in HOLLOW else theme.faint,
        )
        for name in families
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), frameon=False, fontsize=9,
        labelcolor=theme.ink, handletextpad=0.1, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def _codec(row: Row) -> str:
    """What is sent, as the strategy string says it (`vq:groups=16`), for colour."""
    _, _, rest = str(row.get("strategy", "?")).partition(":")
    return rest or str(row.get("codec", "-"))


def _clipped(text: str, limit: int = 44) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _short(row: Row) -> str:
    return str(row.get("preset") or _clipped(_codec(row).replace("vq:", "vq ").replace("groups=", "G=")))


def _kind(row: Row) -> tuple[str, str]:
    return family(row), _codec(row).split(":", 1)[0].rstrip("0123456789")


def _colours(rows: Sequence[Row], theme: Theme) -> dict[str, str]:
    codecs = list(dict.fromkeys(_codec(row) for row in in_order(rows) if not is_single(row)))
    return {codec: theme.palette[i % len(theme.palette)] for i, codec in enumerate(codecs)}


def _kin(points: list[tuple[Row, float, float]]) -> list[list[tuple[Row, float, float]]]:
    """Points that differ by the rate alone (`sequence:vq` with other groups), each list of two or more by bits."""
    groups: dict[tuple[str, str], list[tuple[Row, float, float]]] = {}
    for point in points:
        groups.setdefault(_kind(point[0]), []).append(point)
    return [sorted(group, key=lambda point: point[1]) for group in groups.values() if len(group) > 1]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 steps within the range (1 and 10 alone where it is wide), for a log axis."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 3.2 else (1, 3) if math.log10(high / low) < 5 else (1,)
    return [s * 10.0**e for e in exponents for s in steps if low <= s * 10.0**e <= high]
