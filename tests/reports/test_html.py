import re
from html.parser import HTMLParser

from thinwire.reports.html import html_report, write_html


class Page(HTMLParser):
    """Whether every element is closed, and what is linked from outside."""

    VOID = frozenset({"meta", "img", "br", "source"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_page_is_whole_and_self_contained(document):
    text = html_report(document)
    page = parsed(text)
    assert page.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "@import" not in text
    assert "url(" not in text
    assert page.tags.count("tr") == 1 + len(document["rows"])
    assert page.tags.count("img") == 2
    for row in document["rows"]:
        assert f"<code>{row['strategy']}</code>" in text
    assert "outputs and bytes are real, latency is predicted" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_everything_is_escaped(document):
    bad = '<script>alert("x")</script>&'
    for key in ("model", "prompt_source", "command", "platform", "thinwire"):
        document[key] = bad
    document["latency_model"]["description"] = bad
    document["rows"][0]["strategy"] = bad
    text = html_report(document, [{"strategy": bad, "text": bad}], title=bad)
    parsed(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_continuations_keep_their_lines(document):
    text = html_report(document, [{"strategy": "single", "text": "one\ntwo"}, {"strategy": "ring", "text": ""}])
    assert "one\ntwo" in text
    assert len(re.findall("<section>", text)) == 2


def test_header_alone_and_missing_values():
    parsed(html_report({}))
    text = html_report({"rows": [{"strategy": "sequence:int8", "perplexity": float("nan")}]})
    parsed(text)
    assert ">nan<" not in text


def test_written_atomically(document, tmp_path):
    path = write_html(tmp_path / "out" / "report.html", document)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(path.parent.iterdir()) == [path]


def test_page_says_that_few_windows_tell_little(document):
    assert "Perplexity over one window moves" in html_report({**document, "windows": 1})
    assert "by chance" not in html_report({**document, "windows": 32})
