"""Cosines of features, and the job that measures them, on a tiny model and tiny images."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import tiny_vit
from thinwire.data import images
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.features import compare_features, cosines, mean_and_error
from thinwire.strategies import parse_strategies
from thinwire.training.calibrate import CalibrationJob, collect, learn
from thinwire.training.samples import sample_sites

ROOT = Path(__file__).parents[2]


def test_cosines():
    found = np.array([[1, 0], [1, 1], [-2, 0]], np.float32)
    np.testing.assert_allclose(cosines(found, np.array([[3, 0], [1, 0], [1, 0]], np.float32)), [1, 0.5**0.5, -1])


def test_errors_are_over_images():
    mean, error = mean_and_error([0.0, 2.0, 2.0, 2.0], np.array([0, 1, 0, 1]))
    assert (mean, error) == (1.5, pytest.approx(0.5))
    assert np.isnan(mean_and_error([1.0, 2.0], np.array([3, 3]))[1])


def test_rows_of_several_strategies():
    strategies = parse_strategies("sequence:float32,sequence:int2")
    views = np.stack([tiny_vit.image(seed) for seed in range(3)])
    told = []
    rows = compare_features(tiny_vit.model(), strategies, 3, views, np.arange(3), lambda _: {}, told.append)
    assert told == ["single", *(s.spec() for s in strategies)]
    assert [row["class_tokens"] for row in rows] == ["one", "each"]
    assert rows[0]["bits_per_token_per_layer"] == 32 * 48
    assert rows[0]["class_cosine"] == pytest.approx(1, abs=1e-6)
    assert rows[0]["patch_cosine"] == pytest.approx(1, abs=1e-6)
    assert 0.5 < rows[1]["patch_cosine"] < 0.99
    assert all(row["views"] == 3 and row["tokens"] == 21 for row in rows)


def test_class_tokens_are_sampled_where_they_are_sent():
    """Of 21 rows a window: all 21 if any strategy sends the class token, else those of the patches."""
    views = np.stack([tiny_vit.image(seed) for seed in range(3)])
    job = CalibrationJob(3, 21, 3 * 21)
    each, one = parse_strategies("sequence:int8:site=x:class_tokens=each,sequence:int8:site=x:class_tokens=one")
    samples = collect(tiny_vit.model(), [each], 2, views, job)
    assert {site: rows.shape for site, rows in samples.items()} == {"x": (2, 60, 48)}
    assert collect(tiny_vit.model(), [each, one], 2, views, job)["x"].shape == (2, 63, 48)
    entering = tiny_vit.model().params["class_token"] + tiny_vit.model().params["positions"][0]
    found = sample_sites(tiny_vit.model(), ["x"], views[:1], 21, first=0)["x"][0]
    assert np.isclose(found, entering, atol=1e-5).all(axis=1).sum() == 1


@pytest.mark.thorough
def test_a_prediction_learnt_from_images_serves_better_than_a_random_one(tmp_path):
    """Without tokens to predict from, and with layer 0 coded like the others."""
    (strategy,) = parse_strategies("sequence:pvq:groups=6:size=8:rank=0")
    views = np.stack([tiny_vit.image(seed) for seed in range(10, 22)])
    job = CalibrationJob(12, 21, 240)
    samples = collect(tiny_vit.model(), [strategy], 3, views, job)
    learnt = learn(tiny_vit.model(), strategy, 3, samples, job, {}, out=tmp_path / "set").arrays
    assert (learnt["kv"]["codebook"] != 0).any(axis=(1, 2, 3)).all()
    random = tiny_vit.codebooks(strategy, tiny_vit.engine("single").dims)

    engine = Engine(tiny_vit.model(), strategy, 3, learnt)
    cosine = lambda: cosines(engine.logits(tiny_vit.image(10)), tiny_vit.single_features(10)).mean()
    good = cosine()
    engine._codecs = random  # the same program
    assert good > cosine() + 0.05


def test_the_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pictures = [images.LabelledImage(f"{i}", i, rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for i in range(6)]
    monkeypatch.setattr(images, "labelled_images", lambda split, name="": pictures[images.SPLITS.index(split) :: 2])
    monkeypatch.setattr("thinwire.cli.inputs.open_model", lambda name: dataclasses.replace(tiny_vit.model(), name=name))
    run = runpy.run_path(str(ROOT / "eval/features.py"))["run"]
    options = ["--devices", "2", "--size", "12", "--views", "4", "--learn-views", "6", "--rows", "90"]
    codecs = ["--codecs", "vq:groups=6:size=8", "--json", str(tmp_path / "rows.json")]
    assert run([*options, *codecs]) == 0
    document = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["codec"], row["class_tokens"]) for row in document["rows"]] == [
        ("vq:groups=6:size=8", which) for which in ("each", "one")
    ]
    assert document["learn_rows"] == 90
    assert "| `vq:groups=6:size=8` | each |" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").rglob("manifest.json"))) == 1  # for both
    with pytest.raises(ThinwireError, match="--size is 2, less than a patch of 3"):
        run(["--size", "2"])
