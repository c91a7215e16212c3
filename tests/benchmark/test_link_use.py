"""How much of a link two hosts use, on a short run."""

import json

import pytest
from eval import link_use

from cluster.emulation import needs_emulation
from thinwire.errors import ThinwireError


@needs_emulation
@pytest.mark.thorough
@pytest.mark.parametrize("more", [[], ["--way", "gloo"], ["--way", "plain"]])
def test_end_to_end(more, tmp_path, capsys):
    docs = tmp_path / "performance.md"
    docs.write_text("<!-- link-use:begin -->\n<!-- link-use:end -->\n")
    options = ["--mbps", "10,50", "--kilobytes", "5,40", "--repeats", "2", *more, "--json", str(tmp_path / "link.json")]
    assert link_use.run([*options, "--docs", str(docs)]) == 0
    rows = json.loads((tmp_path / "link.json").read_text())["rows"]
    assert [(row["mbps"], row["bytes"]) for row in rows] == [(m, b) for m in (10, 50) for b in (5000, 40000)]
    for row in rows:
        assert row["seconds"] >= 0.9 * row["wire_s"]  # a bucket lets a little through at once
        assert row["bytes_interface"] > row["bytes"]
        assert row["use"] == pytest.approx(row["wire_s"] / row["seconds"])
    assert "40 kB" in docs.read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--mbps", "0"], "0"), (["--repeats", "0"], "--repeats 0"), (["--kilobytes", "1e-4"], "one byte")],
)
def test_mistakes_are_told_before_anything_is_made(options, said):
    with pytest.raises(ThinwireError, match=said):
        link_use.run(options)
