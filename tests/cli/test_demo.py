import json

import pytest

from thinwire.cli import demo, inputs
from thinwire.cli.main import main

CODED = "sequence:int8"


@pytest.fixture
def short_demo(monkeypatch, text):
    monkeypatch.setattr(demo, "STRATEGIES", f"single,{CODED}")
    monkeypatch.setattr(demo, "CODED", CODED)
    monkeypatch.setattr(inputs, "DEFAULT_TEXT", text)


def test_compares_continues_and_writes_a_report(place, model, short_demo, capsys):
    assert main(["demo", "--model", model, "--tokens", "24", "--devices", "2", "--max-tokens", "1"]) == 0
    out, err = capsys.readouterr()
    files = sorted(path.name for path in (place / "out" / "demo").iterdir())
    assert files == ["latency.png", "quality.png", "report.html", "rows.json"]
    document = json.loads((place / "out" / "demo" / "rows.json").read_text())
    assert [row["strategy"] for row in document["rows"]] == ["single", CODED]
    single, coded = document["continuations"]
    assert (single["strategy"], coded["strategy"]) == ("single", CODED)
    assert "single goes on:" in out
    assert f"{CODED} goes on:" in out
    assert "report and plots: out/demo/rows.json" in out
    assert err.count("continuing the prompt: done") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--tokens", "60", "--max-tokens", "5"], "60 prompt tokens and 5 new ones are more than the 64"),
        (["--max-tokens", "0"], "max-tokens is 0"),
        (["--tokens", "3", "--devices", "4"], "3 tokens cannot be split over 4 devices"),
        (["--devices", "0"], "--devices is 0"),
        (["--out", "words.txt"], "words.txt is a file, not a folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_learnt(place, model, short_demo, refuses, argv, words):
    defaults = {"--model": model, "--tokens": "24", "--max-tokens": "5", "--devices": "2"}
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    refuses(["demo", *(word for pair in {**defaults, **given}.items() for word in pair)], words)
