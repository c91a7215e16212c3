"""Accuracy against bits: the table for a terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.terminal import plain_table

COLUMNS = ("strategy", "devices", "bits", "accuracy", "drop", "± s.e.")
_LEFT = ("strategy",)
Row = Mapping[str, Any]


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is shown: accuracy in per cent, the drop in points against the single device."""
    alone = row["devices"] == 1
    return (
        row["strategy"],
        str(row["devices"]),
        "–" if alone else f"{row['bits_per_token_per_layer']:.4g}",
        f"{100 * row['accuracy']:.2f} %",
        "–" if alone else f"{row['drop_points']:+.2f}",
        f"{row['standard_error_points']:.2f}",
    )


def accuracy_table(rows: Sequence[Row], title: str) -> Table:
    """The rows for a terminal."""
    return plain_table(title, COLUMNS, map(cells, rows), _LEFT)


def accuracy_markdown(document: Mapping[str, Any]) -> str:
    """The rows under a heading with the command and everything that they depend on."""
    card = document["trained"]
    what = (
        f"{document['images']} test images of {card['data'].get('source', 'its data')}, a model trained here for "
        f"`{card['strategy']}` with seed {card['seed']} (`{card['command']}`), virtual devices, float32; the standard "
        "error is that of one accuracy over images, the drop is between two on the same images"
    )
    body = [[f"`{row['strategy']}`", *cells(row)[1:]] for row in document["rows"]]
    return markdown_head(document, what) + markdown_table(COLUMNS, body, _LEFT)
