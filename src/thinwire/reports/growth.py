"""How costs grow: fits to measured rows, what they say, the tables and the picture."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from thinwire.planning.fits import PowerLaw, Sum, power_law, sum_of_powers
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import LIGHT, Theme
from thinwire.reports.rows import Row, as_bytes, as_seconds, significant

MBPS = (10, 100)
ROW_POWERS, TOKEN_POWERS, DEVICE_POWERS = (0, 1), (0, 1, 2), (0, -1)


def fits_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """All laws that the rows of a document tell, by what they are of; an empty part has none."""
    found: dict[str, Any] = {}
    for kind in ("encode", "decode"):
        for groups in _several(document["codec"], "groups", "size"):
            rows = [row for row in document["codec"] if row["groups"] == groups]
            found[f"{kind} of a row, {_groups(groups)}, by K"] = _law(rows, "size", f"{kind}_s_per_row", ROW_POWERS)
        for size in _several(document["codec"], "size", "groups"):
            # A wide group is searched in fewer directions: another law.
            rows = [row for row in document["codec"] if row["size"] == size and not row["directions"]]
            if len({row["groups"] for row in rows}) > 1:
                found[f"{kind} of a row, K = {size}, by G"] = _law(rows, "groups", f"{kind}_s_per_row", ROW_POWERS)
    for (strategy, devices), rows in _by(document["tokens"], "strategy", "devices").items():
        if len(rows) > 1:
            found[f"layer of {_place(strategy, devices)}, by T"] = _law(rows, "tokens", "layer_s", TOKEN_POWERS)
    for (strategy, tokens), rows in _by(_with_single(document["devices"]), "strategy", "tokens").items():
        if len(rows) > 1:
            found[f"pass by {strategy}, T = {tokens}, by N"] = _law(rows, "devices", "device_s", DEVICE_POWERS)
    return found


def _law(rows: Sequence[Row], x: str, y: str, powers: Sequence[int]) -> dict[str, Any]:
    at, cost = [row[x] for row in rows], [row[y] for row in rows]
    several = len(set(at)) > len(powers)
    return {"power": power_law(at, cost), "sum": sum_of_powers(at, cost, powers) if several else None}


def findings(document: Mapping[str, Any], fits: Mapping[str, Any]) -> list[str]:
    """Where one term overtakes another, a sentence each; only of what was measured."""
    said = []
    layers = {name: law["sum"] for name, law in fits.items() if name.startswith("layer") and law["sum"] is not None}
    for name, law in layers.items():
        where = name.removeprefix("layer of ").removesuffix(", by T")
        meeting = law.meeting(1, 2)
        if meeting is None:
            said.append(f"{where}: within the measured lengths only one of matrices and attention is to be told.")
            continue
        said.append(
            f"{where}: what grows with T (matrices, norms, coding) costs {_time(law.coefficient(1))} a token and "
            f"layer, what grows with T² (attention) overtakes it at T = {meeting:,.0f}."
        )
    single = next((law for name, law in layers.items() if name.startswith("layer of single")), None)
    if single is None or single.coefficient(1) <= 0:
        return said
    a_token = single.coefficient(1)
    for row in document["codec"]:
        if row["size"] == 1024 and row["groups"] in (1, 32):
            encode, decode = row["encode_s_per_row"] / a_token, row["decode_s_per_row"] / a_token
            said.append(
                f"`{row['codec']}` of {row['dim']} values: encoding a row is {100 * encode:.1f} % of what a token "
                f"costs in a layer besides attention, decoding one {100 * decode:.2f} %, so that decoding the rows of "
                f"N - 1 others costs as much as the own rows' matrices at N = {1 + 1 / decode:,.0f}."
            )
    for groups in _several(document["codec"], "groups", "size"):
        law = fits[f"encode of a row, {_groups(groups)}, by K"]["sum"]
        if law is not None and law.coefficient(1) > 0:
            size = (a_token - law.coefficient(0)) / law.coefficient(1)
            met = law.meeting(0, 1)
            begins = f"the search overtakes what does not depend on K at K = {met:,.0f}, and " if met else ""
            said.append(f"{_groups(groups)}: {begins}encoding costs as much as a token's matrices at K = {size:,.0f}.")
    for name, law in fits.items():
        total = law["sum"]
        if name.startswith("pass by") and total is not None:
            meeting = total.meeting(0, -1)
            if meeting is not None:
                where = name.removesuffix(", by N")
                said.append(f"{where}: what does not shrink with N overtakes the rest at N = {meeting:,.0f}.")
    return said


def growth_markdown(document: Mapping[str, Any]) -> str:
    """Laws, what they say, and the rows."""
    fits = document["laws"]
    parts = [markdown_head(document, document["what"]), _laws_table(fits)]
    parts.append("\n".join(f"- {one}" for one in findings(document, fits)) + "\n")
    if document["codec"]:
        body = [
            [
                f"`{row['codec']}`",
                _time(row["encode_s_per_row"]),
                _time(row["decode_s_per_row"]),
                f"{row['directions'] or 'all'}",
            ]
            for row in document["codec"]
        ]
        parts.append(markdown_table(["codec", "encode a row", "decode a row", "directions searched"], body))
    if document["tokens"]:
        body = [
            [f"{_place(row['strategy'], row['devices'], code=True)}", f"{row['tokens']:,}", *_seconds(row)]
            for row in document["tokens"]
        ]
        parts.append(markdown_table(["one device's part of", "tokens", "a layer", "embedding, output", "pass"], body))
    if document["devices"]:
        headings = ["strategy", "devices", "tokens", "a layer", "embedding, output", "pass", "by FLOPs", "sent"]
        headings += [f"with {mbps} Mbps" for mbps in MBPS]
        body = [
            [
                f"`{row['strategy']}`", f"{row['devices']}", f"{row['tokens']:,}", *_seconds(row),
                as_seconds(row["by_flops_s"]), as_bytes(row["sent_bytes"]),
                *(as_seconds(row["device_s"] + 8e-6 * row["sent_bytes"] / mbps) for mbps in MBPS),
            ]
            for row in document["devices"]
        ]  # fmt: skip
        parts.append(markdown_table(headings, body))
    return "\n".join(parts) + f"\n{MEANING.format(timed=document['timed'])}\n"


MEANING = (
    "Every time is that of one device's program alone, which is what it would run in company but for what it receives: "
    "{timed}. Measured with one layer: *pass* is the layer as often as the model has layers, and embedding and output "
    "once. *By FLOPs*: the single device's time in proportion to FLOPs. *Sent*: by one device, by formula; *with … "
    "Mbps*: pass and bytes at that rate, predicted, no delays counted. Laws: least squares, powers in logarithms, sums "
    "by relative error; ± is the standard error; a term that came out negative is left out."
)


def _laws_table(fits: Mapping[str, Any]) -> str:
    body = [[name, _power(law["power"]), _sum(law["sum"])] for name, law in fits.items()]
    return markdown_table(["cost", "power law: exponent", "sum of known powers"], body, ["sum of known powers"])


def _power(law: PowerLaw) -> str:
    return f"{law.exponent:.2f}" + ("" if law.exponent_error is None else f" ± {law.exponent_error:.2f}")


def _sum(law: Sum | None) -> str:
    if law is None:
        return "–"
    names = {0: "", 1: " x", 2: " x²", -1: " / x"}
    terms = [
        f"({_time(c)}{'' if error is None else f' ± {_time(error)}'}){names[int(power)]}"
        for power, c, error in zip(law.powers, law.coefficients, law.errors, strict=True)
        if c
    ]
    return " + ".join(terms)


def _seconds(row: Row) -> list[str]:
    return [as_seconds(row["layer_s"]), as_seconds(row["ends_s"]), as_seconds(row["device_s"])]


def _time(seconds: float) -> str:
    """As ``as_seconds``, with microseconds and nanoseconds."""
    if seconds >= 1e-3 or seconds == 0:
        return as_seconds(seconds)
    return f"{significant(seconds * 1e6)} µs" if seconds >= 1e-6 else f"{significant(seconds * 1e9)} ns"


def _place(strategy: str, devices: int, code: bool = False) -> str:
    name = f"`{strategy}`" if code else strategy
    return name if devices == 1 else f"{name}, one of {devices}"


def _groups(groups: int) -> str:
    return f"G = {groups}"


def _several(rows: Sequence[Row], name: str, other: str) -> list[int]:
    """Values of ``name`` at which enough values of ``other`` were measured to tell of growth."""
    values = dict.fromkeys(row[name] for row in rows)
    return [value for value in values if len({row[other] for row in rows if row[name] == value}) > 2]


def _by(rows: Sequence[Row], *names: str) -> dict[tuple, list[Row]]:
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def _with_single(rows: Sequence[Row]) -> list[Row]:
    """The single device's row as the first of every strategy's."""
    names = dict.fromkeys(row["strategy"] for row in rows if row["devices"] > 1)
    alone = [{**row, "strategy": name} for name in names for row in rows if row["devices"] == 1]
    return [*alone, *(row for row in rows if row["devices"] > 1)]


def growth_plot(document: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Four pictures: coding by codewords and by groups, a layer by tokens with its terms, a pass by devices."""
    figure = Figure(figsize=(11.0, 8.4), facecolor=theme.paper)
    FigureCanvasAgg(figure)
    figure.text(0.012, 0.985, "How costs grow", fontsize=13, fontweight="bold", color=theme.ink, ha="left", va="top")
    figure.text(0.012, 0.955, document["what"], fontsize=9, color=theme.faint, ha="left", va="top")
    panels = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.9, bottom=0.065, wspace=0.2, hspace=0.3)
    fits = document["laws"]
    _codec_panel(panels[0, 0], document["codec"], "groups", "size", "codewords K of a group", fits, theme)
    _codec_panel(panels[0, 1], document["codec"], "size", "groups", "groups G", fits, theme)
    _token_panel(panels[1, 0], document["tokens"], fits, theme)
    _device_panel(panels[1, 1], _with_single(document["devices"]), theme)
    return figure


def _codec_panel(axes: Axes, rows: Sequence[Row], fixed: str, x: str, title: str, fits, theme: Theme) -> None:
    colours = itertools.cycle(theme.palette)
    for value in _several(rows, fixed, x):
        chosen = sorted((row for row in rows if row[fixed] == value), key=lambda row: row[x])
        name = _groups(value) if fixed == "groups" else f"K = {value}"
        for kind, dash in (("encode", "-"), ("decode", "--")):
            law = fits.get(f"{kind} of a row, {name}, by {'K' if x == 'size' else 'G'}")
            exponent = f", x^{law['power'].exponent:.2f}" if law else ""
            axes.plot(
                [row[x] for row in chosen], [row[f"{kind}_s_per_row"] for row in chosen], dash, marker="o",
                markersize=4, color=next(colours), label=f"{kind}, {name}{exponent}",
            )  # fmt: skip
    _dress(axes, title, "seconds a row", sorted({row[x] for row in rows}), theme)


def _token_panel(axes: Axes, rows: Sequence[Row], fits, theme: Theme) -> None:
    for colour, ((strategy, devices), chosen) in zip(
        theme.palette, _by(rows, "strategy", "devices").items(), strict=False
    ):
        tokens = [row["tokens"] for row in chosen]
        name = _place(strategy, devices)
        axes.plot(tokens, [row["layer_s"] for row in chosen], "o", markersize=5, color=colour, label=name)
        law = fits.get(f"layer of {name}, by T")
        if law is not None and law["sum"] is not None:
            law = law["sum"]
            axes.plot(tokens, [law.at(t) for t in tokens], color=colour, linewidth=1.6)
            for power, dash in ((1, ":"), (2, "--")):
                if law.coefficient(power) > 0:
                    axes.plot(
                        tokens, [law.coefficient(power) * t**power for t in tokens], dash, color=colour, linewidth=1,
                        label=f"its T{'²' if power == 2 else ''} term",
                    )  # fmt: skip
    _dress(axes, "tokens T", "seconds of a layer", sorted({row["tokens"] for row in rows}), theme)


def _device_panel(axes: Axes, rows: Sequence[Row], theme: Theme) -> None:
    groups = _by(rows, "strategy")
    for colour, ((strategy,), chosen) in zip(theme.palette, groups.items(), strict=False):
        devices = [row["devices"] for row in chosen]
        axes.plot(
            devices, [row["device_s"] for row in chosen], "-", marker="o", markersize=4, color=colour, label=strategy
        )
        axes.plot(devices, [row["by_flops_s"] for row in chosen], ":", color=colour, linewidth=1.2, label="by FLOPs")
    if rows:
        single = rows[0]["device_s"] * rows[0]["devices"]
        counts = sorted({row["devices"] for row in rows})
        axes.plot(
            counts,
            [single / count for count in counts],
            color=theme.faint,
            linewidth=1,
            label="an Nth of the single device",
        )
    _dress(axes, "devices N", "seconds of one device's pass", sorted({row["devices"] for row in rows}), theme)


def _dress(axes: Axes, x: str, y: str, ticks: Sequence[int], theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.tick_params(colors=theme.faint, labelsize=8, length=0)
    axes.set_xlabel(x, color=theme.ink, fontsize=9)
    axes.set_ylabel(y, color=theme.ink, fontsize=9)
    if not ticks:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=theme.faint)
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_seconds(value)))
    axes.legend(fontsize=7.5, frameon=False, labelcolor=theme.ink, loc="best")


def _short_seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{significant(value / size, 1)} {unit}"
    return f"{value / 1e-9:g} ns"
