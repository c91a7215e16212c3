"""How costs grow, end to end on a tiny model, and what is said of rows that were made up."""

import json
import runpy
from pathlib import Path

import pytest

from thinwire.benchmark import pieces
from thinwire.errors import ThinwireError
from thinwire.reports.growth import findings, fits_of, growth_markdown

EVAL = runpy.run_path(str(Path(__file__).parents[2] / "eval" / "cost_growth.py"))
SMALL = [
    "--model", "shape:llama-tiny", "--sizes", "4,8,16", "--groups", "1,2,4", "--rows", "8", "--tokens", "16,32,48,64",
    "--token-devices", "2", "--devices", "1,2,4", "--device-tokens", "32",
    "--strategies", "sequence:vq:groups=4:size=16",
]  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pieces, "_SLICE_S", 0.0)
    monkeypatch.setitem(EVAL["run"].__globals__, "SWEPT_SIZE", 16)


@pytest.mark.thorough
def test_end_to_end(tmp_path, quick, capsys):
    docs = tmp_path / "cost.md"
    docs.write_text("before\n<!-- cost-growth:begin -->\n<!-- cost-growth:end -->\nafter\n")
    path = tmp_path / "growth.json"
    files = ["--json", str(path), "--plot", str(tmp_path / "growth.png"), "--docs", str(docs)]
    assert EVAL["run"]([*SMALL, *files]) == 0
    found = json.loads(path.read_text())
    assert [(row["groups"], row["size"]) for row in found["codec"]][:4] == [(1, 4), (1, 8), (1, 16), (4, 4)]
    assert {(row["strategy"], row["devices"]) for row in found["tokens"]} == {
        ("single", 1),
        ("sequence:vq:groups=4:size=16", 2),
    }
    assert [row["devices"] for row in found["devices"]] == [1, 2, 4]
    assert all(row["device_s"] >= row["ends_s"] > 0 for row in found["tokens"])
    assert found["devices"][1]["sent_bytes"] > 0 == found["devices"][0]["sent_bytes"]
    text = docs.read_text()
    assert text.startswith("before")
    assert "power law: exponent" in text
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    # Another part, the others kept.
    assert EVAL["run"]([*SMALL, "--parts", "devices", "--devices", "1,2", "--resume", "--json", str(path)]) == 0
    again = json.loads(path.read_text())
    assert again["tokens"] == found["tokens"]
    assert len(again["devices"]) == 2
    capsys.readouterr()


def document(codec=(), tokens=(), devices=()):
    facts = {"model": "m", "thinwire": "0", "jax": "0", "python": "3", "command": "c", "what": "w", "timed": "once"}
    return {**facts, "codec": list(codec), "tokens": list(tokens), "devices": list(devices)}


def test_where_terms_meet():
    place = {"strategy": "single", "devices": 1, "ends_s": 0.0, "device_s": 1.0}
    lengths = [256, 512, 1024, 2048, 4096]
    tokens = [{**place, "tokens": t, "layer_s": 1e-4 * t + 5e-8 * t * t} for t in lengths]
    codec = [
        {"codec": f"vq:groups=32:size={k}", "groups": 32, "size": k, "dim": 64, "directions": 0,
         "encode_s_per_row": 1e-6 + 1e-8 * k, "decode_s_per_row": 1e-6}
        for k in (256, 512, 1024, 2048)
    ]  # fmt: skip
    many = {
        "strategy": "sequence:int8",
        "tokens": 1024,
        "layer_s": 1.0,
        "ends_s": 0.0,
        "by_flops_s": 1.0,
        "sent_bytes": 0,
    }
    devices = [{**many, "devices": n, "device_s": 0.1 + 2 / n} for n in (1, 2, 4, 8)]
    found = document(codec, tokens, devices)
    laws = fits_of(found)
    assert laws["encode of a row, G = 32, by K"]["sum"].coefficients == pytest.approx((1e-6, 1e-8))
    assert laws["decode of a row, G = 32, by K"]["power"].exponent == pytest.approx(0, abs=1e-9)
    said = " ".join(findings(found, laws))
    assert "overtakes it at T = 2,000" in said
    assert "at N = 101" in said  # 1e-4 s a token against 1e-6 s a decoded row
    assert "at K = 100, and encoding costs as much as a token's matrices at K = 9,900" in said
    assert "what does not shrink with N overtakes the rest at N = 20" in said
    assert "| `single` | 256 |" in growth_markdown({**found, "laws": laws})


def test_nothing_measured_says_nothing():
    assert fits_of(document()) == {}
    assert findings(document(), {}) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--parts", "colour"], "there are codec, tokens, devices"),
        (["--groups", "7"], "cannot be cut into 7"),
        (["--sizes", "1"], "2 to 65536"),
        (["--sizes", "2.5"], "whole numbers"),
        (["--tokens", "100000"], "more than the 2048"),
        (["--devices", "64"], "tokens cannot be split over 64"),
        (["--strategies", "single"], "none that splits tokens"),
        (["--cores", "0"], "--cores is 0"),
        (["--resume"], "--json names"),
        (["--docs", "/nowhere/x.md"], "x.md"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(options, said):
    with pytest.raises(ThinwireError, match=said):
        EVAL["run"]([*SMALL, *options])


def test_a_file_of_other_settings_is_not_gone_on_with(tmp_path):
    path = tmp_path / "growth.json"
    path.write_text(json.dumps({"model": "shape:gpt2", "dtype": "float32", "cores": 1}))
    with pytest.raises(ThinwireError, match="model shape:gpt2, not shape:llama-tiny"):
        EVAL["run"]([*SMALL, "--resume", "--json", str(path)])
