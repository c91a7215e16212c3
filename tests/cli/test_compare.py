import json

import numpy as np
import pytest

from thinwire.cli import console, inputs
from thinwire.cli.main import main
from thinwire.codebooks import store
from thinwire.reports.table import comparison_table
from thinwire.strategies import parse_strategy
from thinwire.weights.load import load_model

VQ = "vq:groups=2:size=8"
SMALL = ["compare", "--model", "shape:llama-tiny", "--tokens", "24", "--devices", "3"]
ISSUE_KEYS = {
    "strategy", "codec", "devices", "bits_per_token_per_layer", "bytes_sent_per_device", "perplexity", "kl_to_single",
    "top1_agreement", "predicted_latency_s",
}  # fmt: skip


def test_table_json_and_html_and_codebooks_learnt_once(place, little_calibration, capsys):
    command = [*SMALL, "--split", "2/1/1", "--strategies", f"single,sequence:{VQ},ring:{VQ}"]
    assert main([*command, "--json", "out/rows.json", "--html", "out/report.html"]) == 0
    out, err = capsys.readouterr()
    assert "shape:llama-tiny, 3 devices, 1 x 24 tokens of random token ids" in out
    assert "sequence:vq" in out
    assert f"no codebooks yet for sequence:{VQ}: learning them now from random token ids" in err
    assert err.count(f"learning {VQ}, by layer: done") == 1  # the ring uses them too
    document = json.loads((place / "out" / "rows.json").read_text())
    assert document["command"].startswith("thinwire compare --model shape:llama-tiny --tokens 24")
    assert document["split"] == [12, 6, 6]
    assert document["prompt_source"] == "random token ids"
    assert document["latency_model"]["flops_per_second"] > 0
    assert {"model", "model_sha256", "devices", "tokens", "windows", "seed", "jax", "thinwire"} <= set(document)
    rows = document["rows"]
    assert [row["strategy"] for row in rows] == ["single", f"sequence:{VQ}", f"ring:{VQ}"]
    assert all(set(row) >= ISSUE_KEYS for row in rows)
    assert rows[0]["standard_error"] is None  # of one window
    assert rows[1]["kl_to_single"] == pytest.approx(rows[2]["kl_to_single"], abs=1e-5)
    assert "<table" in (place / "out" / "report.html").read_text()
    saved = list((place / "cache" / "codebooks").glob("*/*"))
    assert [path.name for path in saved] == ["kv-vq-groups2-size8"]
    manifest = json.loads((saved[0] / "manifest.json").read_text())
    assert manifest["data"]["source"] == "random token ids"

    strategy = parse_strategy(f"sequence:{VQ}")
    codecs = inputs.codecs_for(load_model("shape:llama-tiny"), [strategy], 3, None, 0)(strategy)
    np.testing.assert_array_equal(codecs["kv"]["codebook"], store.load(saved[0]).arrays["kv"]["codebook"])
    assert capsys.readouterr().err == ""  # not learnt again


def test_a_text_with_windows(place, model, text, capsys):
    command = ["compare", "--model", model, "--text", text, "--tokens", "16", "--windows", "2", "--devices", "2"]
    assert main([*command, "--strategies", "sequence:int8", "--json", "rows.json", "--dtype", "bfloat16"]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert document["prompt_source"] == f"{text}, held-out part"
    (row,) = document["rows"]
    assert (row["windows"], row["tokens"]) == (2, 16)
    assert row["standard_error"] > 0
    assert not (place / "cache" / "codebooks").exists()


@pytest.mark.parametrize(("columns", "bandwidths"), [(110, 2), (80, 1), (60, 0)])
def test_a_narrow_terminal_still_names_the_strategies(monkeypatch, capsys, columns, bandwidths):
    monkeypatch.setenv("COLUMNS", str(columns))
    seconds = {"10": 2.0, "100": 1.0}
    row = {"strategy": "sequence:vq:groups=16", "perplexity": 17.0, "predicted_latency_s": seconds}
    console.show(comparison_table([row], "title", console.width()))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] and line.split()[0].startswith("sequence") for line in lines)
    assert max(map(len, lines)) <= columns
    assert " ".join(lines).count("predicted s") == bandwidths


def test_a_split_is_balanced_for_each_strategy(place):
    command = [*SMALL, "--split", "balanced", "--strategies", "sequence:float32,tensor:float32"]
    assert main([*command, "--json", "rows.json", "--html", "report.html"]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert document["split"] == "balanced"
    assert max(row["kl_to_single"] for row in document["rows"]) < 1e-6
    assert "balanced" in (place / "report.html").read_text()
