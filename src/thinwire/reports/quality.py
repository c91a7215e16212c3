"""Perplexity against bits: the table for a terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.terminal import plain_table

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
    return plain_table(title, COLUMNS, map(cells, rows), _LEFT)


def training_note(rows: Sequence[Row]) -> str:
    """Of weights that were trained: what the single device makes of the text with them, and made of it before."""
    before = rows[0].get("base_perplexity")
    if before is None:
        return ""
    single = rows[0]["perplexity"] / rows[0]["perplexity_ratio"]
    return f"; perplexity of the single device {single:.2f} with the trained weights, {before:.2f} before"


def quality_markdown(document: Mapping[str, Any]) -> str:
    """The rows under a heading with the command and everything that they depend on."""
    rows = document["rows"]
    split = " + ".join(map(str, document["split"]))
    what = (
        f"{rows[0]['windows']} windows of {document['tokens']} tokens (split {split}) of {document['text']}, held-out "
        f"part, seed {document['seed']}, {document['devices']} devices ({document['emulated']}), float32"
        f"{training_note(rows)}"
    )
    body = [[f"`{row['strategy']}`", *cells(row)[1:]] for row in rows]
    return markdown_head(document, what) + markdown_table(COLUMNS, body, _LEFT)
