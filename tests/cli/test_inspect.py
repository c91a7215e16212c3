"""`thinwire inspect` on a model and on a codebook set."""

import json

import numpy as np
import pytest

import tiny
from thinwire.cli.main import main
from thinwire.strategies import parse_strategy
from thinwire.training.calibrate import CalibrationJob, learn


@pytest.fixture
def codebooks(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 200, 48)).astype(np.float32)
    strategy = parse_strategy("sequence:vq:groups=6:size=8")
    learn(tiny.model(), strategy, 1, {"kv": rows}, CalibrationJob(rows=200), {"source": "noise"}, out=tmp_path / "set")
    return tmp_path / "set"


def test_a_codebook_set(codebooks, tmp_path, capsys):
    assert main(["inspect", str(codebooks), "--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png")]) == 0
    printed = capsys.readouterr().out
    assert "18 bits a token at kv" in printed
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["compression"]["kv"] == pytest.approx(32 * 48 / 18)
    assert facts["bytes"] == 4 * 2 * 6 * 8 * 8
    assert len(facts["by_layer"]["kv"]) == 2
    assert 0 < facts["by_layer"]["kv"][0]["relative_error"] < 1
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_a_model(tmp_path, capsys):
    assert main(["inspect", "shape:llama-tiny", "--json", str(tmp_path / "f.json")]) == 0
    assert "layers.wq" in capsys.readouterr().out
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["parameters"] == sum(array["values"] for array in facts["arrays"].values())
    assert facts["arrays"]["layers.wk"]["shape"] == [2, 64, 2, 16]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name a model or a folder of codebooks"),
        (["shape:llama-tiny", "--plot", "x.png"], "--plot draws codebooks"),
        (["no/such/place"], "unknown model"),
    ],
)
def test_mistakes(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *argv]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
