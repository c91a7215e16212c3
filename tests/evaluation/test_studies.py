"""The studies under eval/, as a user starts them but in this process, on tiny models."""

import dataclasses
import functools
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import tiny_vit
from thinwire.cli import inputs, main
from thinwire.data import images
from thinwire.errors import ThinwireError
from thinwire.evaluation import quality
from thinwire.training.calibrate import CalibrationJob

ROOT = Path(__file__).parents[2]
SMALL = ["--model", "shape:llama-tiny:layers=3", "--tokens", "24", "--devices", "3", "--windows", "2"]
MARKS = "# Before\n<!-- {0}:begin -->\nold\n<!-- {0}:end -->\nafter\n"


def study(name):
    return runpy.run_path(str(ROOT / f"eval/{name}.py"))["run"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "CalibrationJob", functools.partial(CalibrationJob, windows=6, window=32, rows=120))
    monkeypatch.setattr(inputs, "study_job", lambda seed: CalibrationJob(windows=6, window=32, rows=120, seed=seed))
    return tmp_path


def rows_of(path="rows.json"):
    return json.loads(Path(path).read_text())["rows"]


@pytest.mark.thorough
def test_flow_cut(place, capsys):
    (place / "results.md").write_text(MARKS.format("flow-cut"))
    options = ["--codecs", "int8,vq:groups=4:size=8", "--every", "1,2", "--remote", "pvq:groups=4:size=8:rank=8"]
    outputs = ["--json", "rows.json", "--plot", "plot.png", "--docs", "results.md"]
    assert study("flow_cut")([*SMALL, *options, *outputs]) == 0
    rows = rows_of()
    assert [(row["place"], row["every"], row["tensors"]) for row in rows[::2]] == [
        ("residual", 1, 2), ("residual", 2, 1), ("sums", 1, 6), ("all_kv", 1, 3), ("remote_kv", 1, 3),
        ("remote_kv", 1, 2),
    ]  # fmt: skip
    assert [row["codec"] for row in rows[:2]] == ["int8", "vq:groups=4:size=8"]
    assert {row["bits_per_tensor"] for row in rows if row["codec"].startswith("vq")} == {12}
    for row in rows:
        assert row["bits_whole"] == row["bits_per_tensor"] * row["tensors"]
        assert row["inputs"] == 2
    exact, coded = (sum(row["kl_to_single"] for row in rows if row["codec"].startswith(kind)) for kind in ("int", "vq"))
    assert coded > 10 * exact
    text = (place / "results.md").read_text()
    assert "old" not in text
    assert "| `int8` | residual stream, a cut a layer | 2 |" in text
    assert "Least perplexity, change of each place within so many bits" in text
    assert (place / "plot.png").stat().st_size > 1000
    # Codebooks of a place serve all who code there: residual, both sums together, keys and values, and the prediction.
    assert len(list((place / "cache").rglob("manifest.json"))) == 4
    assert "python -m eval.flow_cut --model shape:llama-tiny" in capsys.readouterr().out


@pytest.mark.thorough
def test_loss(place):
    options = ["--strategies", "sequence:int4", "--rates", "0.2,0.9", "--draws", "2", "--json", "rows.json"]
    assert study("loss")([*SMALL, *options, "--plot", "plot.png"]) == 0
    rows = rows_of()
    assert [(row["rate"], row["repair"]) for row in rows] == [
        (0.0, "mask"), (0.2, "mask"), (0.9, "mask"), (0.2, "mean"), (0.9, "mean"),
    ]  # fmt: skip
    assert rows[0]["rise"] == pytest.approx(0)
    assert [len(row["losses_by_draw"]) for row in rows] == [1, 2, 2, 2, 2]
    for few, many in ((rows[1], rows[2]), (rows[3], rows[4])):
        assert 0 < few["kl_to_single"] < many["kl_to_single"]
        ratio = (1 + many["loss"]) / (1 + rows[0]["loss"])
        assert many["rise"] == pytest.approx(ratio - 1, abs=1e-6)


@pytest.mark.thorough
def test_losses_of_a_prediction(place):
    options = ["--strategies", "sequence:pvq:groups=4:size=8:rank=8", "--rates", "0.5", "--draws", "1"]
    assert study("loss")([*SMALL, *options, "--json", "rows.json"]) == 0
    assert [(row["repair"], row["loop"]) for row in rows_of()] == [
        ("mask", "broken"), ("predict", "broken"), ("mask", "broken"), ("predict", "mended"), ("mask", "mended"),
    ]  # fmt: skip


def test_compressors(place, capsys):
    assert study("codecs")([*SMALL, "--bits", "64", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "| vq, 16 codewords | 64 | `vq:groups=16:size=16` | 64 | yes |" in listed
    assert "| int8 | 64 |" in listed


@pytest.mark.thorough
def test_compressors_are_measured(place, monkeypatch):
    from thinwire.evaluation import matched

    kinds = matched.kinds
    some = ("int2", "vq, 16 codewords", "lowrank, 4 bits", "predict+lowrank, 4 bits")
    monkeypatch.setattr(matched, "kinds", lambda *given: {kind: kinds(*given)[kind] for kind in some})
    (place / "results.md").write_text(MARKS.format("codecs"))
    outputs = ["--json", "rows.json", "--plot", "plot.png", "--docs", "results.md"]
    assert study("codecs")([*SMALL, "--bits", "64", *outputs]) == 0
    rows = rows_of()
    assert {row["codec"] for row in rows} == {
        "drop", "predict+drop", "vq:groups=16:size=16", "lowrank:dims=16:bits=4", "predict+lowrank:dims=16:bits=4",
    }  # fmt: skip
    assert [row["loss"] for row in rows] == sorted(row["loss"] for row in rows)
    assert "| `drop` | no | 0 |" in (place / "results.md").read_text()
    assert (place / "plot.png").stat().st_size > 1000


def test_weights(place):
    (place / "results.md").write_text(MARKS.format("weights"))
    options = ["--strategies", "sequence:int4", "--json", "rows.json", "--docs", "results.md"]
    assert study("weights")([*SMALL, *options]) == 0
    rows = rows_of()
    assert [(row["weights"], row["strategy"]) for row in rows] == [
        (weights, strategy)
        for weights in ("float32", "int8", "int4:group=32")
        for strategy in ("single", "sequence:int4")
    ]
    assert rows[0]["loss"] == 0
    assert [row["coding_loss"] for row in rows[::2]] == [0, 0, 0]
    assert rows[1]["loss"] == pytest.approx(rows[1]["coding_loss"])
    for alone, coded in zip(rows[2::2], rows[3::2], strict=True):
        assert 1 + coded["loss"] == pytest.approx((1 + alone["loss"]) * (1 + coded["coding_loss"]), rel=1e-6)
    assert rows[0]["weight_bytes"] > 3 * rows[2]["weight_bytes"] > 4 * rows[4]["weight_bytes"]
    assert "| `int8` |" in (place / "results.md").read_text()


def test_a_run_goes_on_where_it_was(place, monkeypatch):
    options = [*SMALL, "--codecs", "int4", "--remote", "", "--json", "rows.json"]
    whole = study("flow_cut")
    assert whole(options) == 0
    first = json.loads((place / "rows.json").read_text())
    cut = {**first, "distances": {spec: of[: i % 3] for i, (spec, of) in enumerate(first["distances"].items())}}
    (place / "rows.json").write_text(json.dumps(cut))
    runs = []
    before = quality.distance
    monkeypatch.setattr(quality, "distance", lambda *given: runs.append(0) or before(*given))
    assert whole([*options, "--resume"]) == 0
    assert rows_of() == first["rows"]
    assert len(runs) == sum(2 - i % 3 for i in range(len(first["distances"])))

    assert whole([*options, "--resume"]) == 0  # nothing is left to do
    assert rows_of() == first["rows"]
    with pytest.raises(ThinwireError, match="was measured with seed 0, not 1: start afresh"):
        whole([*options, "--resume", "--seed", "1"])
    (place / "rows.json").write_text("{}")
    with pytest.raises(ThinwireError, match="is no result of this study"):
        whole([*options, "--resume"])


@pytest.mark.thorough
def test_images(place, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [images.LabelledImage(f"{i}", i, rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for i in range(6)]
    monkeypatch.setattr(images, "labelled_images", lambda split, name="": pictures[images.SPLITS.index(split) :: 2])
    monkeypatch.setattr("thinwire.cli.inputs.open_model", lambda name: dataclasses.replace(tiny_vit.model(), name=name))
    small = ["--model", "tiny", "--devices", "2", "--size", "12", "--windows", "4", "--learn-views", "6"]
    codecs = ["--codecs", "vq:groups=6:size=8", "--remote", "", "--json", "rows.json", "--plot", "plot.png"]
    assert study("flow_cut")([*small, *codecs]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert document["measure"] == "cosine"
    assert document["text"] == images.DEFAULT
    rows = document["rows"]
    assert [row["place"] for row in rows] == ["residual", "sums", "all_kv", "remote_kv"]
    assert all(0 < row["loss"] < 2 for row in rows)
    assert study("loss")([*small, "--strategies", "sequence:vq:groups=6:size=8", "--rates", "0.5", "--draws", "1"]) == 0
    with pytest.raises(ThinwireError, match="names no classes of images with known labels"):
        study("weights")([*small, "--strategies", "sequence:int4"])
    with pytest.raises(ThinwireError, match="--size is 2, less than a patch of 3"):
        study("flow_cut")([*small, *codecs, "--size", "2"])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("flow_cut", ["--places", "stream"], "no place 'stream'; there are residual, sums"),
        ("flow_cut", ["--codecs", "vq:groups=x"], "groups must be a whole number"),
        ("flow_cut", ["--codecs", ","], "name at least one each"),
        ("flow_cut", ["--every", "3"], "every=3 cuts nothing in 3 layers"),
        ("flow_cut", ["--codecs", "quality"], "cannot act at residual"),
        ("flow_cut", ["--resume"], "--resume goes on from the file that --json names"),
        ("flow_cut", ["--docs", "none.md"], "cannot read none.md"),
        ("loss", ["--strategies", "ring:int8"], "has no codes of single tokens to lose"),
        ("loss", ["--devices", "0"], "--devices is 0"),
        ("weights", ["--weights", "3"], "--weights '3' is none of 8, 4"),
        ("weights", ["--plot", "plot.png"], "--plot is not drawn by this study"),
        ("codecs", ["--tokens", "5000"], "5000 tokens are more than the 2048"),
    ],
)
def test_mistakes_are_told_before_any_work(name, options, words, monkeypatch):
    monkeypatch.setattr("thinwire.cli.study.read_by", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr("thinwire.cli.inputs.collect", lambda *_: pytest.fail("it began"))
    with pytest.raises(ThinwireError, match=words) as error:
        study(name)([*SMALL, *options])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flow_cut", ["--every", "0"]),
        ("flow_cut", ["--every", "a"]),
        ("loss", ["--rates", "2"]),
        ("loss", ["--rates", "a"]),
        ("loss", ["--draws", "0"]),
        ("codecs", ["--bits", "0"]),
        ("codecs", ["--bits", "few"]),
    ],
)
def test_values_that_are_none_end_the_study(name, options, capsys):
    with pytest.raises(SystemExit) as ended:
        study(name)([*SMALL, *options])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_mistake_is_one_sentence(capsys):
    assert main.guarded(lambda: study("loss")([*SMALL, "--strategies", "single"])) == 2
    assert "single has no codes of single tokens to lose" in capsys.readouterr().err
