"""A benchmark's rows: the table for a terminal and for Markdown, pictures, and a page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from thinwire.benchmark.rows import VS_PEER
from thinwire.reports.files import write_text
from thinwire.reports.html import page, picture
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.plots import DARK, LIGHT, Theme, canvas, latency_plot
from thinwire.reports.rows import Row, as_bytes, as_count, as_mbps, as_seconds, as_times, is_single

Show = Callable[[Row], str]
COLUMNS: dict[str, Show] = {
    "strategy": lambda row: row["strategy"] + (f" ({row['disturbance']})" if row["disturbance"] else ""),
    "Mbps": lambda row: f"{row['mbps']:g}",
    "tokens": lambda row: f"{row['tokens']:,}",
    "total": lambda row: as_seconds(row["total_s"]),
    "±": lambda row: as_seconds(row["spread_s"]),
    "compute": lambda row: as_seconds(row["compute_s"]),
    "wire, wait": lambda row: as_seconds(row["wire_s"]),
    "vs single": lambda row: as_times(row["speedup_vs_single"]),
    "vs busy": lambda row: as_times(row.get("speedup_vs_busy_single")),
    "equal pace": lambda row: as_times(row.get("speedup_at_equal_pace")),
    "vs float32": lambda row: as_times(row["speedup_vs_sequence_float32"]),
    "vs tensor": lambda row: as_times(row["speedup_vs_tensor_float32"]),
    "floor": lambda row: as_seconds(row["floor_s"]),
    "ratio": lambda row: "–" if row["ratio_to_floor"] is None else f"{row['ratio_to_floor']:.2f}",
    "sent": lambda row: as_bytes(row["bytes_ledger"]),
    "interface": lambda row: as_bytes(row["bytes_interface"]),
    "messages": lambda row: as_count(row["messages"]),
    "same": lambda row: "–" if row["same_output"] is None else "yes" if row["same_output"] else "no",
}
SHORT = ("strategy", "Mbps", "total", "compute", "wire, wait", "vs single", "ratio", "sent")
LEFT_OUT_FIRST = ("wire, wait", "compute", "sent", "ratio")  # where a terminal has no room for all
PARTS = ("compute", "encode", "decode", "wire", "wait")
MEANING = (
    "total: median seconds of a pass, from when all hosts have begun until the last is done; ±: half the distance of "
    "its quartiles; compute: the same program without sending; vs busy: the speedup over the single device while every "
    "other host makes such a pass, too; equal pace: the speedup over the single device had it run at the pace that "
    "host 0 had in the strategy's pass, by matrix products just before and after each; vs float32 and vs tensor: over "
    "sequence:float32 and tensor:float32; sent: by one host, as the ledger says, and as its interface counted; same: "
    "every pass gave the same output, bit for bit; (drop): all links fell to a tenth in mid-run, (lose): every host "
    "lost a twentieth of the packets that arrived, (slow): the last host had half of its share; in bars the wire is "
    "the bytes at the rate of the link and the round trips, and waiting what else a pass takes longer than without "
    "sending"
)


def cells(row: Row, names: Iterable[str] = COLUMNS) -> list[str]:
    """A row as it is shown."""
    return [COLUMNS[name](row) for name in names]


def bench_table(rows: Sequence[Row], title: str, width: int = 100) -> Table:
    """The most important columns that a terminal of this width has room for, a line below each rate."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    lengths = len({row["tokens"] for row in rows}) > 1
    names = [*SHORT[:2], *(["tokens"] if lengths else []), *SHORT[2:]]
    needed = {name: 2 + max(map(len, (name, *(COLUMNS[name](row) for row in rows)))) for name in names}
    for name in LEFT_OUT_FIRST:
        if sum(needed[kept] for kept in names) > width:
            names.remove(name)
    table.add_column(names[0], overflow="fold", min_width=18)
    for name in names[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*cells(row, names), end_section=after is not None and _group(after) != _group(row))
    return table


def bench_markdown(document: Mapping[str, Any]) -> str:
    """The rows below what was measured and how."""
    body = [[f"`{cells(row)[0]}`", *cells(row)[1:]] for row in document["rows"]]
    head = markdown_head(document, what(document))
    remarks = "".join(f"\n{line}.\n" for line in peer_remarks(document["rows"]))
    return head + markdown_table(list(COLUMNS), body) + f"\n{MEANING}; {document['floor']}.\n" + remarks


def what(document: Mapping[str, Any]) -> str:
    """The circumstances in a line."""
    shares = sorted(set(document["cpu"]))
    cpu = " and ".join(f"{share:g}" for share in shares)
    hosts = f"{document['hosts']} {{}} host{'' if document['hosts'] == 1 else 's'}"
    split = "" if document["split"] is None else f", split {_split(document['split'])}"
    if not document["measured"]:
        return f"{hosts.format('virtual')}, latency predicted, {document['dtype']}{split}"
    lost = " and ".join(f"{100 * share:g} %" for share in sorted(set(document["loss"])))
    loss = f", {lost} of arriving packets lost" if any(document["loss"]) else ""
    return (
        f"{hosts.format('emulated')} of {cpu} core{'s' if shares != [1.0] else ''} each{loss}, {document['dtype']}"
        f"{split}, median of {document['repeats']} interleaved repeats, inputs with seed 0"
    )


def _split(split: Any) -> str:
    return split if isinstance(split, str) else "/".join(f"{share:g}" for share in split)


def by_strategy(rows: Sequence[Row], tokens: int, how: str = "measured") -> list[dict[str, Any]]:
    """A row for each strategy with its seconds by rate, as ``latency_plot`` draws them."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["tokens"] == tokens and not row["disturbance"]:
            one = found.setdefault(row["strategy"], {**row, f"{how}_latency_s": {}})
            one[f"{how}_latency_s"][str(row["mbps"])] = row["total_s"]
    return list(found.values())


def parts_of(row: Row) -> dict[str, float]:
    """Seconds of each of ``PARTS``; together the pass."""
    encode, decode = row["encode_s"] or 0.0, row["decode_s"] or 0.0
    local = row["total_s"] if row["compute_s"] is None else min(row["compute_s"], row["total_s"])
    wire = min(row["wire_s"] or 0.0, row["link_s"] or 0.0)
    compute = max(0.0, local - encode - decode)
    return dict(zip(PARTS, (compute, encode, decode, wire, (row["wire_s"] or 0.0) - wire), strict=True))


def peer_remarks(rows: Sequence[Row]) -> list[str]:
    """Beside each peer, how much faster the strategies were, a line a peer, length and rate."""
    lines = []
    for peer in (row for row in rows if row.get("peer")):
        beside = [row for row in rows if _group(row) == _group(peer) and not (row.get("peer") or row["disturbance"])]
        ratio = f"{VS_PEER}{peer['strategy']}"
        found = ", ".join(f"{row['strategy']} {as_times(row[ratio])}" for row in beside)
        lines.append(f"vs {peer['strategy']}, {peer['tokens']:,} tokens, {as_mbps(peer['mbps'])}: {found}")
    return lines


def parts_plot(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """What a pass of each strategy is made of; a peer's is computing.

    The wire is what the bytes take at the rate of the link, and the round trips; what else a pass takes longer than
    the same program without sending is waiting.
    """
    figure, axes = canvas(theme, "Where the time goes", _subtitle(rows), left=0.34)
    labels = [f"{COLUMNS['strategy'](row)}  {as_mbps(row['mbps'])}" for row in rows]
    values = {part: [parts_of(row)[part] for row in rows] for part in PARTS}
    start = [0.0] * len(rows)
    for part, colour in zip(PARTS, theme.palette, strict=False):
        axes.barh(labels, values[part], left=start, color=colour, label=part, height=0.62)
        start = [a + b for a, b in zip(start, values[part], strict=True)]
    axes.set_xlim(0, _end_of_axis(rows))
    for n, (row, end) in enumerate(zip(rows, start, strict=True)):
        if row["floor_s"] is not None:
            axes.plot([row["floor_s"]] * 2, [n - 0.38, n + 0.38], color=theme.ink, linewidth=1.6)
        if end > axes.get_xlim()[1]:
            axes.annotate(
                f"{as_seconds(end)} →", (0.995, n), xycoords=("axes fraction", "data"), ha="right", va="center",
                color=theme.paper, fontsize=8, fontweight="bold",
            )  # fmt: skip
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("seconds of one forward; the mark is the floor")
    axes.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=theme.ink, ncols=5, bbox_to_anchor=(1, 1))
    return figure


def bench_html(document: Mapping[str, Any]) -> str:
    """The page as text."""
    rows, how = document["rows"], "measured" if document["measured"] else "predicted"
    heading = f"{document['model']} on {document['hosts']} hosts joined by thin links"
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row)) + "</tr>" for row in rows)
    meaning = f"{MEANING}; {document['floor']}"
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="faint">{escape(what(document))}</p>',
        f'<p class="promise"><strong>{escape(document["note"])}</strong> {escape(meaning)}.</p>',
        f"<pre>{escape(document['command'])}</pre>",
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
        *(f"<p>{escape(line)}</p>" for line in peer_remarks(rows)),
    ]
    for tokens in sorted({row["tokens"] for row in rows}):
        chosen = [row for row in rows if row["tokens"] == tokens]
        lines = by_strategy(chosen, tokens, how)
        parts.append(f"<h2>{tokens:,} tokens</h2>")
        if len({row["mbps"] for row in chosen}) > 1:
            alt = f"{how.capitalize()} seconds of a forward pass over the rate of the links, a line for every strategy."
            parts.append(picture(latency_plot(lines, LIGHT, how), latency_plot(lines, DARK, how), alt))
        alt = "Seconds of computing, encoding, decoding, the wire and waiting, a bar for every strategy and rate."
        parts.append(picture(parts_plot(chosen, LIGHT), parts_plot(chosen, DARK), alt))
    return page(heading, parts, document)


def write_bench_html(path: str | Path, document: Mapping[str, Any]) -> Path:
    """Writes the page atomically."""
    return write_text(path, bench_html(document))


def _group(row: Row) -> tuple[Any, Any]:
    return row["tokens"], row["mbps"]


def _subtitle(rows: Sequence[Row]) -> str:
    first = rows[0]
    how = f"median of {first['repeats']} repeats" if first["measured"] else "predicted"
    cut = max(row["total_s"] for row in rows) > _end_of_axis(rows)
    return f"{first['tokens']:,} tokens, {how}{'; a bar with an arrow is longer' if cut else ''}"


def _end_of_axis(rows: Sequence[Row]) -> float:
    """Seconds up to which bars are drawn: all of each, but for those of more than three single devices."""
    longest = max(row["total_s"] for row in rows)
    single = max([row["total_s"] for row in rows if is_single(row)], default=longest)
    shown = [row for row in rows if row["total_s"] <= 3 * single]
    return 1.04 * max(seconds for row in shown for seconds in (row["total_s"], row["floor_s"] or 0.0))
