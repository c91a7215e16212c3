"""Wikitext to prose, and pages to splits."""

import bz2

import pytest

from thinwire.data import wikipedia
from thinwire.errors import ThinwireError


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("'''Bold''' and ''italic''", "Bold and italic"),
        ("a [[link]] to [[Target page|its words]]s", "a link to its wordss"),
        ("x{{cite|a={{nested|b}}}} y", "x y"),
        ("x<ref name=a/> y<ref>z {{cite}}</ref>.", "x y."),
        ("a <!-- hidden\n --> b", "a b"),
        ("a\n{| class=x\n|-\n| cell {{t}}\n{|\n|inner\n|}\n|}\nb", "a\n\nb"),
        ("[[File:x.jpg|thumb|A [[caption]] here]]prose [[Category:Y]][[de:Z]]", "prose"),
        ("[http://example.org words] left", "words left"),
        ("* one\n# two\n:: three", "one\ntwo\nthree"),
        ("A man ({{IPA|x}}, born 1900) ran {{convert|5|km|mi}}.", "A man (born 1900) ran 5 km."),
        ("between {{convert|105|and|130|cm|abbr=on}}", "between 105 and 130 cm"),
        ("5&nbsp;km &amp; more<br/>x", "5 km & more x"),
        ("x<math>\\frac{a}{b}</math>y", "xy"),
        ("", ""),
        ("a }} broken {{ [[ text", "a broken text"),
    ],
)
def test_markup_goes_and_words_stay(source, plain):
    assert wikipedia.plain_text(source) == plain


def test_headings_stay_and_appendices_go():
    source = "intro\n== History ==\n=== Early ===\nold\n== See also ==\n* x\n=== sub ===\ny\n==Empty==\n"
    source += "== Later ==\nnew\n==References==\nz"
    assert wikipedia.plain_text(source) == "intro\n\nHistory\nEarly\n\nold\n\nLater\n\nnew"


def write_dump(path, pages):
    body = "".join(
        f"<page><title>{title}</title><ns>{ns}</ns>{extra}<revision><text>{text}</text></revision></page>"
        for title, ns, extra, text in pages
    )
    xml = f'<mediawiki xmlns="export-0.10">{body}</mediawiki>'
    path.write_bytes(bz2.compress(xml.encode()))
    return path


def test_only_long_articles_are_kept(tmp_path):
    long = "word " * 500
    pages = [
        ("Long", 0, "", f"'''Long''' {long}"),
        ("Short", 0, "", "word"),
        ("Talk:Long", 1, "", long),
        ("Moved", 0, '<redirect title="Long"/>', long),
    ]
    found = wikipedia.articles(write_dump(tmp_path / "a.bz2", pages))
    assert [title for title, _ in found] == ["Long"]
    assert found[0][1].startswith("Long word")


def test_damaged_dumps(tmp_path):
    good = write_dump(tmp_path / "a.bz2", [("T", 0, "", "x")]).read_bytes()
    for name, raw in [("cut", good[:40]), ("not", b"hello"), ("xml", bz2.compress(b"<a><b></a>"))]:
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ThinwireError, match="is not a readable Wikipedia excerpt"):
            wikipedia.articles(tmp_path / name)


def test_splits_are_fixed_by_title():
    titles = [f"Article {i}" for i in range(1000)]
    share = sum(wikipedia.split_of(t) == "calibration" for t in titles) / 1000
    assert 0.55 < share < 0.65
    assert wikipedia.split_of("Anarchism") == "test"
    with pytest.raises(ThinwireError, match="unknown split"):
        wikipedia.documents("train")
