"""The command line and an encoder of text: what works, and one sentence for what cannot."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

from thinwire.cli.main import main
from weights.biased_checkpoints import BERT_TINY, random_tree, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    config = dataclasses.replace(BERT_TINY, V=263)
    return str(write(tmp_path_factory.mktemp("model") / "bert", config, random_tree(config)))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "--prompt", "the rain"], "reads a whole input at once and continues nothing; name a language model"),
        (["demo", "--tokens", "24"], "reads a whole input at once and continues nothing; name a language model"),
        (["compare", "--tokens", "24"], "gives features and no perplexity to compare; .* python -m eval.embeddings"),
    ],
)
def test_what_takes_a_language_model(refuses, encoder, argv, words):
    refuses([*argv, "--model", encoder], words)


def test_calibrate_then_embed(place, text, encoder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # or the table breaks its headings
    spec = "sequence:vq:groups=4:size=8"
    few = ["--tokens", "24", "--text", text]
    assert main(["calibrate", "--model", encoder, "--strategy", spec, "--windows", "6", "--rows", "140", *few]) == 0
    assert spec in capsys.readouterr().out
    strategies = f"single,sequence:float32,{spec}"
    argv = ["--model", encoder, "--devices", "3", "--texts", "4", "--strategies", strategies, "--json", "rows.json"]
    assert runpy.run_path(str(ROOT / "eval" / "embeddings.py"))["run"]([*argv, *few]) == 0
    assert "rank correlation" in capsys.readouterr().out
    document = json.loads((place / "rows.json").read_text())
    assert (document["texts"], document["tokens"], document["devices"]) == (4, 24, 3)
    assert [row["strategy"] for row in document["rows"]] == strategies.split(",")
    assert document["rows"][1]["mean_cosine"] == pytest.approx(1, abs=1e-6)
    assert document["rows"][2]["mean_cosine"] < 1
