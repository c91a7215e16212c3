"""Plain articles from an excerpt of a Wikipedia dump, split into calibration and test by article."""

import bz2
import functools
import hashlib
import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import TEXTS
from thinwire.weights.fetch import fetch

SPLITS = ("calibration", "test")

_MIN_CHARS = 2000  # shorter pages are stubs and lists
_CALIBRATION_PERCENT = 60

_BLOCKS = "ref|math|gallery|timeline|source|syntaxhighlight|score|imagemap|chem|hiero|noinclude"
_MARKUP: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"<!--.*?-->", re.S), ""),
    (re.compile(rf"<(?:{_BLOCKS})\b[^<>]*/>", re.I), ""),
    (re.compile(rf"<({_BLOCKS})\b[^<>]*>.*?</\1\s*>", re.I | re.S), ""),
    (re.compile(r"<br\b[^<>]*>", re.I), " "),
]
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TABLE = re.compile(r"^[ :*]*\{\|(?:(?!\{\|).)*?^\s*\|\}", re.S | re.M)
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+\s*([^\[\]]*)\]")
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_NAMESPACE = re.compile(r"\s*:?\s*(?:file|image|category|media|[a-z]{2,3}(?:-[a-z]+)*)\s*:", re.I)
_HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*\1\s*$")
_APPENDICES = {
    "references", "notes", "footnotes", "citations", "sources", "bibliography", "see also", "external links",
    "further reading", "notes and references", "references and notes", "gallery", "works cited",
}  # fmt: skip
_TIDY: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"</?[a-zA-Z][^<>]*>"), ""),
    (re.compile(r"__[A-Z]+__"), ""),
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"^[*#:;]+ *", re.M), ""),
    (re.compile(r"^[|!{}].*$", re.M), ""),  # what is left of broken tables and templates
    (re.compile(r"\{\{|\}\}|\[\[|\]\]"), ""),
    (re.compile("[\u00a0\u2009\t ]+"), " "),
    (re.compile(r"\( ?(?:[,;:/–] ?)+"), "("),
    (re.compile(r" ?\( ?\)"), ""),
    (re.compile(r"\( "), "("),
    (re.compile(r" +([,.;:)])"), r"\1"),
    (re.compile(r" *\n *"), "\n"),
    (re.compile(r"\n{3,}"), "\n\n"),
]


def documents(split: str = "calibration", name: str = "wikipedia-excerpt") -> list[str]:
    """Articles of a catalogued excerpt as plain text, each of at least 2000 characters.

    Args:
        split: ``calibration`` (about 60 % of the articles) or ``test`` (the others); no article is in both.
        name: the excerpt's catalogue name; fetched if needed.

    Raises:
        ThinwireError: an unknown split, or the excerpt cannot be fetched or read.
    """
    if split not in SPLITS:
        raise ThinwireError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return [text for title, text in articles(fetch(TEXTS[name])) if split_of(title) == split]


def split_of(title: str) -> str:
    """The split that the article of this title belongs to, today and on every machine."""
    bucket = int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") % 100
    return SPLITS[bucket >= _CALIBRATION_PERCENT]


@functools.lru_cache(maxsize=1)  # both splits are often read in turn, and take a second or two each
def articles(path: Path) -> tuple[tuple[str, str], ...]:
    """Title and plain text of each long enough article in a MediaWiki dump compressed with bzip2.

    Raises:
        ThinwireError: the file cannot be read or is damaged.
    """
    out = []
    try:
        for title, source in _pages(path):
            text = plain_text(source)
            if len(text) >= _MIN_CHARS:
                out.append((title, text))
    except (OSError, EOFError, ET.ParseError) as e:
        raise ThinwireError(f"{path} is not a readable Wikipedia excerpt ({e}): delete it to fetch it again") from e
    return tuple(out)


def _pages(path: Path) -> Iterator[tuple[str, str]]:
    """Title and wikitext of each article (no redirects, no talk), as the dump streams by."""
    with bz2.open(path) as f:
        for _, page in ET.iterparse(f):
            if not page.tag.endswith("}page"):
                continue
            space = page.tag.removesuffix("page")
            source = page.findtext(f"{space}revision/{space}text") or ""
            if page.findtext(f"{space}ns") == "0" and page.find(f"{space}redirect") is None:
                yield page.findtext(f"{space}title") or "", source
            page.clear()


def plain_text(source: str) -> str:
    """The prose of an article in wikitext: no markup, tables, references, pictures or appendices; headings kept."""
    text = source
    for pattern, to in _MARKUP:
        text = pattern.sub(to, text)
    text = _innermost_first(_TEMPLATE, _template, text)
    text = _innermost_first(_TABLE, lambda _: "", text)
    text = _EXTERNAL.sub(r"\1", text)
    text = _innermost_first(_LINK, _link, text)
    text = html.unescape(_sections(text))
    for pattern, to in _TIDY:
        text = pattern.sub(to, text)
    return text.strip()


def _innermost_first(pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace nested brackets from the inside out."""
    found = 1
    while found:
        text, found = pattern.subn(replace, text)
    return text


def _template(match: re.Match[str]) -> str:
    """The few templates that stand for words of the sentence; the others vanish."""
    name, *args = (part.strip() for part in match[1].split("|"))
    plain = [a for a in args if "=" not in a]
    match name.lower():
        case "convert" | "cvt" if len(plain) >= 4 and plain[1] in ("to", "and", "or", "by", "x", "-", "–"):
            return " ".join(plain[:4])  # a range: 105|and|130|cm
        case "convert" | "cvt" if len(plain) >= 2:
            return " ".join(plain[:2])
        case "lang" if len(plain) >= 2:
            return plain[1]
        case "quote" | "blockquote" | "nowrap" | "nihongo" | "transl" if plain:
            return plain[0]
        case "ndash" | "spaced ndash":
            return "–"
    return ""


def _link(match: re.Match[str]) -> str:
    """The words that a link shows; pictures, categories and links to other languages show none."""
    if _NAMESPACE.match(match[1]):
        return ""
    return match[1].rsplit("|", 1)[-1]


def _sections(text: str) -> str:
    """The text without its appendices, and without headings that nothing follows."""
    kept: list[str] = []
    pending: list[tuple[int, str]] = []  # headings whose text is still to come
    dropped = 0  # level of the appendix that we are in; 0 for none
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            level = len(heading[1])
            if dropped and level > dropped:
                continue
            dropped = level if heading[2].strip("' ").lower() in _APPENDICES else 0
            pending = [p for p in pending if p[0] < level] + ([] if dropped else [(level, heading[2])])
        elif not dropped:
            if line.strip() and pending:
                kept += ["", *(words for _, words in pending), ""]
                pending = []
            kept.append(line)
    return "\n".join(kept)
