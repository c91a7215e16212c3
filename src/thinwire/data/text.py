"""Text by its name: a file, or an excerpt of the catalogue."""

import difflib
from pathlib import Path

from thinwire.data import wikipedia
from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import TEXTS
from thinwire.weights.fetch import fetch


def read_text(name: str | Path) -> str:
    """The text of a UTF-8 file, or of a catalogue name.

    Raises:
        ThinwireError: no such file or name; the file is empty or not UTF-8; the excerpt cannot be fetched.
    """
    if _is_articles(name):
        return "\n\n".join(doc for split in wikipedia.SPLITS for doc in wikipedia.documents(split, str(name)))
    return _read_file(fetch(TEXTS[str(name)]) if str(name) in TEXTS else Path(name).expanduser())


def read_documents(name: str | Path, split: str) -> list[str]:
    """The documents of one split of a text: whole articles of an excerpt, or one part of a long text.

    A long text is cut once, at the end of the line nearest to 60 % of its length: calibration before, test behind.

    Args:
        name: the path of a UTF-8 file, or a catalogue name.
        split: ``calibration`` or ``test``.

    Raises:
        ThinwireError: as ``read_text``, or an unknown split, or a file too short to split.
    """
    if _is_articles(name):
        return wikipedia.documents(split, str(name))
    if split not in wikipedia.SPLITS:
        raise ThinwireError(f"unknown split {split!r}: choose one of {', '.join(wikipedia.SPLITS)}")
    text = read_text(name)
    aim = len(text) * 6 // 10
    cut = text.find("\n", aim) + 1 or text.rfind("\n", 0, aim) + 1 or aim
    part = text[:cut] if split == "calibration" else text[cut:]
    if not part.strip():
        raise ThinwireError(f"{name} is too short to be split into calibration and test text: give a longer file")
    return [part]


def _is_articles(name: str | Path) -> bool:
    """Whether a text is a dump of articles, not one long document."""
    return str(name) in TEXTS and TEXTS[str(name)].member.endswith(".bz2")


def _read_file(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as e:
        close = difflib.get_close_matches(str(path), TEXTS, n=1, cutoff=0.5)
        hint = f", did you mean {close[0]}?" if close else "; known texts are"
        known = "" if close else f" {', '.join(TEXTS)}"
        raise ThinwireError(f"there is no text {str(path)!r}{hint}{known}") from e
    except (OSError, ValueError) as e:
        raise ThinwireError(f"cannot read {path} ({getattr(e, 'strerror', None) or e})") from e
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        # Without the mark at its start, which the codec takes off before it counts.
        at = e.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        raise ThinwireError(
            f"{path} is not UTF-8: byte {at} (0x{raw[at]:02x}) does not fit; convert it, for example with iconv"
        ) from e
    if not text.strip():
        raise ThinwireError(f"{path} holds no text: give a file that is not empty")
    return text.replace("\r\n", "\n")
