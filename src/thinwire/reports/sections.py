"""Generated parts of a hand-written Markdown document, between two marks of a name."""

from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.reports.files import write_text


def read_section(path: str | Path, name: str) -> tuple[str, str]:
    """The text of a document before and behind the lines of a section, its two marks included.

    Raises:
        ThinwireError: it cannot be read, or has no such section.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        before, begun, rest = Path(path).read_text(encoding="utf-8").partition(begin)
    except (OSError, UnicodeDecodeError) as error:
        raise ThinwireError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ThinwireError(f"{path} has no section between {begin} and {end} to put the table in.")
    return before + begun, end + after


def write_section(path: str | Path, name: str, text: str) -> None:
    """Puts a text in the place of the lines of a section.

    Raises:
        ThinwireError: the document cannot be read or written, or has no such section.
    """
    before, after = read_section(path, name)
    write_text(path, f"{before}\n{text.strip()}\n{after}")
