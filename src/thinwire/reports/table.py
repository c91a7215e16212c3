"""A comparison as a table: in the terminal (100 columns) and in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from thinwire.reports.rows import (
    HONEST_NOTE,
    Row,
    as_bytes,
    as_change,
    as_count,
    as_mbps,
    as_percent,
    as_seconds,
    as_times,
    bandwidths,
    caution,
    family,
    in_order,
    is_single,
    number,
    predictions,
    significant,
)

SHOWN_MBPS = (10.0, 100.0)


def comparison_table(
    rows: Sequence[Row], title: str | None = None, width: int = 100, windows: int | None = None
) -> Table:
    """The rows for a terminal; latencies at 10 and 100 Mbps (or the two lowest bandwidths there are).

    A terminal of less than 100 columns has room for the second of them only, one of less than 75 for none.
    Below it stands what is real, what is predicted, and how far a perplexity over so many ``windows`` can be trusted.
    """
    notes = "\n".join(filter(None, (HONEST_NOTE, caution(windows))))
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=notes)
    table.caption_justify = "left"
    table.title_justify = "left"
    table.add_column("strategy", overflow="fold", min_width=16, max_width=32)
    for heading in ("bits/token\n/layer", "sent by a\ndevice", "ppl", "KL\nnats", "same\ntop-1"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = _shown(rows)
    shown = shown if width >= 100 else shown[-1:] if width >= 75 else []
    for mbps in shown:
        table.add_column(f"predicted s\n{as_mbps(mbps)}", justify="right", no_wrap=True)
    previous = None
    for row in in_order(rows):
        if previous is not None and family(row) != previous and table.row_count:
            table.add_section()
        previous = family(row)
        table.add_row(
            Text(str(row.get("strategy", "?"))),
            significant(number(row, "bits_per_token_per_layer")) if not is_single(row) else "–",
            as_bytes(number(row, "bytes_sent_per_device")),
            significant(number(row, "perplexity"), 4),
            significant(number(row, "kl_to_single"), 2),
            as_percent(number(row, "top1_agreement")),
            *(_latency(row, mbps) for mbps in shown),
            style="bold" if is_single(row) else "",
        )
    return table


def _shown(rows: Sequence[Row]) -> list[float]:
    known = bandwidths(rows)
    return [mbps for mbps in SHOWN_MBPS if mbps in known] or known[:2]


def _latency(row: Row, mbps: float) -> Text:
    cell = Text(significant(predictions(row).get(mbps)))
    speedup = predictions(row, "predicted_speedup").get(mbps)
    if is_single(row):
        cell.append(" " * 7)
    elif speedup is not None:  # colour says what the number says already: faster or slower than one device
        cell.append(f" {as_times(speedup):>6}", style="green" if speedup > 1 else "red")
    return cell


Column = tuple[str, str, Callable[[Row], str]]

COLUMNS: tuple[Column, ...] = (
    ("devices", "How many devices share the prompt.", lambda row: as_count(number(row, "devices"))),
    (
        "bits / token / layer",
        "What one token costs on the wire in each layer, as the codec counts it.",
        lambda row: "–" if is_single(row) else significant(number(row, "bits_per_token_per_layer")),
    ),
    (
        "bytes sent by a device",
        "What a device sends in one forward pass, as the ledger counts it.",
        lambda row: as_bytes(number(row, "bytes_sent_per_device")),
    ),
    (
        "messages",
        "How many messages a device sends in one forward pass; each pays the link's latency once.",
        lambda row: as_count(number(row, "messages_per_device")),
    ),
    (
        "perplexity",
        "How surprised the model is by the text; lower is better.",
        lambda row: significant(number(row, "perplexity"), 4),
    ),
    (
        "change",
        "That perplexity against the single device's.",
        lambda row: "–" if is_single(row) else as_change(number(row, "perplexity_ratio")),
    ),
    (
        "KL (nats/token)",
        "How far the predicted distribution is from the single device's; 0 is identical.",
        lambda row: significant(number(row, "kl_to_single"), 2),
    ),
    (
        "same top-1",
        "How often the most likely next token is the single device's.",
        lambda row: as_percent(number(row, "top1_agreement")),
    ),
    (
        "max Δlogit",
        "The largest difference of any logit from the single device's.",
        lambda row: significant(number(row, "max_abs_logit_difference"), 2),
    ),
)


def columns(rows: Sequence[Row]) -> list[Column]:
    """All columns as (heading, explanation, cell of a row): the fixed ones, then a latency for every bandwidth.

    The number of devices has a column only where it differs between rows; else the header says it once.
    """
    counts = {number(row, "devices") for row in rows if not is_single(row)}
    fixed = COLUMNS if len(counts) > 1 else COLUMNS[1:]
    return [*fixed, *(_latency_column(mbps) for mbps in bandwidths(rows))]


def _latency_column(mbps: float) -> Column:
    def cell(row: Row) -> str:
        seconds = as_seconds(predictions(row).get(mbps))
        speedup = predictions(row, "predicted_speedup").get(mbps)
        return seconds if speedup is None or is_single(row) else f"{seconds} ({as_times(speedup)})"

    explanation = f"Predicted time of one forward pass with links of {as_mbps(mbps)}, and the speed-up over one device."
    return f"{as_mbps(mbps)}, predicted", explanation, cell


def split_text(split: Any) -> str:
    """`[256, 256, 256, 256]` as `256 + 256 + 256 + 256`; words as they are."""
    if isinstance(split, list | tuple):
        return " + ".join(str(part) for part in split)
    return "even" if split is None else str(split)


def latency_model_text(document: Mapping[str, Any]) -> str:
    """The latency model in one sentence with its two constants."""
    model = document.get("latency_model") or {}
    if not model:
        return ""
    description = str(model.get("description") or "").strip().rstrip(".")
    parts = [description[:1].upper() + description[1:]]
    rate, latency = number(model, "flops_per_second"), number(model, "message_latency_s")
    constants = []
    if rate is not None:
        constants.append(f"{significant(rate / 1e9)} GFLOP/s a device")
    if latency is not None:
        constants.append(f"{as_seconds(latency)} a message")
    if constants:
        parts.append("constants: " + ", ".join(constants))
    return "; ".join(part for part in parts if part) + "."
