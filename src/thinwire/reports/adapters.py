"""Adapters for several codecs beside one another: the table for a terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.terminal import plain_table

COLUMNS = (
    "trained",
    "strategy",
    "bits",
    "compression",
    "one device",
    "change",
    "± s.e.",
    "KL",
    "of the base",
    "± s.e.",
)
_LEFT = ("trained", "strategy")
Row = Mapping[str, Any]


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is shown; changes of perplexity in per cent, KL in nats a token."""
    percent = lambda ratio: f"{100 * (ratio - 1):+.2f} %"
    return (
        row["folder"],
        row["strategy"],
        f"{row['bits_per_token_per_layer']:.4g}",
        f"{row['compression']:.4g}x" if row["bits_per_token_per_layer"] else "–",
        percent(row["single_perplexity"] / row["base_perplexity"]),
        percent(row["perplexity_ratio"]),
        f"{100 * row['standard_error']:.2f} %",
        f"{row['kl_to_single']:.4f}",
        percent(row["base_ratio"]),
        f"{100 * row['base_standard_error']:.2f} %",
    )


def adapters_table(rows: Sequence[Row], title: str) -> Table:
    """The rows for a terminal."""
    return plain_table(title, COLUMNS, map(cells, rows), _LEFT)


def adapters_markdown(document: Mapping[str, Any]) -> str:
    """The rows with the command, what they depend on, and what the columns are."""
    rows = document["rows"]
    what = (
        f"{rows[0]['windows']} windows of {document['tokens']} tokens of {document['text']}, held-out part, seed "
        f"{document['seed']}, {document['devices']} devices ({document['emulated']}), float32, perplexity of the base "
        f"on one device {rows[0]['base_perplexity']:.2f}"
    )
    body = [[row["folder"], f"`{row['strategy']}`", *cells(row)[2:]] for row in rows]
    meaning = (
        "\n*one device*: perplexity of the trained model on the single device, against the base; *change* and *KL*: of "
        "the strategy, against the trained model's own single device; *of the base*: of the strategy, against the base "
        "on the single device.\n"
    )
    return markdown_head(document, what) + markdown_table(COLUMNS, body, _LEFT) + meaning
