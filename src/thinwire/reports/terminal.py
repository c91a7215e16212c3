"""A table of plain cells for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str]) -> Table:
    """The rows under a title; columns of ``left`` begin at the left, all others end at the right."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right")
    for row in rows:
        table.add_row(*row)
    return table
