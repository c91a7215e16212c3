"""Tables in Markdown, with the command and the circumstances that they depend on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Headings and rows of text; the first column and those named in ``left`` are aligned left."""
    rule = ["---" if i == 0 or name in left else "---:" for i, name in enumerate(headings)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)) + "\n"


def markdown_head(document: Mapping[str, Any], what: str) -> str:
    """What was measured, the versions and the command, above a table."""
    versions = "thinwire {thinwire}, jax {jax}, python {python}".format(**document)
    return f"{what}; {document['model']}, {versions}.\n\n```sh\n{document['command']}\n```\n\n"
