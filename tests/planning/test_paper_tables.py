"""The papers' setting in the latency model."""

import json
import runpy
from pathlib import Path

import pytest

EVAL = runpy.run_path(str(Path(__file__).parents[2] / "eval" / "paper_tables.py"))


def speedups(once):
    return {row["strategy"]: row["speedup"] for row in EVAL["predict"](once)}


def test_full_precision_loses_and_codes_win_on_thin_links():
    found = speedups(once=True)
    assert set(found["single"].values()) == {1.0}
    assert found["tensor:float32"][10] < found["sequence:float32"][10] < 0.02
    inputs, context = (found[f"sequence:vq:groups=1:size=1024:site={site}"] for site in ("x", "kv"))
    # Everybody projects everything again where the layer's input is coded, which caps four devices at 2.84.
    assert 2.4 < inputs[10] < inputs[500] < 2.84 < context[10] < context[500] < 4


def test_sending_to_each_receiver_takes_three_times_as_long_on_the_wire():
    rows = {once: EVAL["predict"](once) for once in (True, False)}
    seconds = {once: {row["strategy"]: row["seconds"] for row in rows[once]} for once in rows}
    for strategy, once in seconds[True].items():
        compute = once[10] - (once[10] - once[20]) * 2
        assert seconds[False][strategy][10] - compute == pytest.approx(3 * (once[10] - compute), rel=1e-6)


def test_written_as_json(tmp_path, capsys):
    assert EVAL["run"](["--json", str(tmp_path / "paper.json")]) == 0
    assert "2.64x" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "paper.json").read_text())["rows"]) == len(EVAL["STRATEGIES"])
