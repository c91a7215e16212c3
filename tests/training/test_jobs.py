"""The jobs under train/ and eval/, as a user starts them but in this process, and the configurations they read."""

import json
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from thinwire.cli import main
from thinwire.codebooks import store
from thinwire.errors import ThinwireError
from thinwire.reports.sections import read_section
from thinwire.strategies import parse_strategy
from thinwire.training.image_run import ImageRun
from thinwire.training.jobs import CodebookRun, read_config
from thinwire.training.text_run import TextRun

ROOT = Path(__file__).parents[2]
CONFIG = """
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.jobs import CodebookRun

CONFIG = CodebookRun(("sequence:vq:groups=2:size=8",), "shape:llama-tiny", job=CalibrationJob(2, 40, 60))
"""


def job(path: str):
    return runpy.run_path(str(ROOT / path))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


def test_codebooks_by_a_configuration_and_changes_to_it(config, tmp_path, capsys):
    arguments = [config, "--job.windows", "3", "--job.seed", "5", "--out", str(tmp_path / "set")]
    assert job("train/codebooks.py")["run"](arguments) == 0
    manifest = store.load(tmp_path / "set").manifest
    assert (manifest.model, manifest.codec, manifest.seed) == ("shape:llama-tiny", "vq:groups=2:size=8", 5)
    assert (manifest.data["windows"], manifest.data["rows"]) == (3, 60)
    assert "relative error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a configuration first: prog configs/NAME.py"),
        (["--job.windows", "3"], "name a configuration first"),
        (["none.py"], r"there is no configuration none\.py"),
        ([__file__], "holds no CONFIG of the kind CodebookRun"),
    ],
)
def test_what_is_no_configuration(arguments, words):
    with pytest.raises(ThinwireError, match=words):
        read_config(CodebookRun, arguments, "prog")


@pytest.mark.parametrize("arguments", [["--job.windows", "x"], ["--jobs.windows", "3"], ["--help"]])
def test_arguments_that_are_not_its_fields_end_the_job(config, arguments, capsys):
    with pytest.raises(SystemExit) as done:
        read_config(CodebookRun, [config, *arguments], "prog")
    assert done.value.code == (0 if arguments == ["--help"] else 2)


@pytest.mark.parametrize(
    ("name", "kind", "module"),
    [
        ("vit_fashion_mnist", ImageRun, "train.vit_fashion_mnist"),
        ("vit_fashion_mnist_in_place", ImageRun, "train.vit_fashion_mnist"),
        ("vit_fashion_mnist_erased", ImageRun, "train.vit_fashion_mnist"),
        ("vit_fashion_mnist_coded", ImageRun, "train.vit_fashion_mnist"),
        ("lm_smollm2_adapter", TextRun, "train.lm_smollm2_adapter"),
        ("lm_smollm2_compact", TextRun, "train.lm_smollm2_adapter"),
        ("gpt2_small_from_scratch", TextRun, "train.gpt2_small_from_scratch"),
        ("gpt2_small_coded", TextRun, "train.gpt2_small_from_scratch"),
    ],
)
def test_configurations_of_training_are_sound(name, kind, module):
    path = ROOT / "configs" / f"{name}.py"
    config = read_config(kind, [str(path), "--recipe.devices", "1", "2"] if "coded" in name else [str(path)], "prog")
    assert f"python -m {module} configs/{name}.py" in path.read_text()
    assert config.recipe.devices == ((1, 2) if "coded" in name else config.recipe.devices)


def test_results_train_what_they_need_first(tmp_path, monkeypatch, capsys):
    results = job("eval/results.py")
    monkeypatch.chdir(tmp_path)
    docs = str(ROOT / "docs" / "results.md")
    assert results["run"](["--list", "--docs", docs, "--out", str(tmp_path), "--only", "accuracy"]) == 0
    shifted, in_place, erased, coded, measure = capsys.readouterr().out.replace("\n", " ").split("python -m ")[1:]
    assert shifted.startswith("train.vit_fashion_mnist configs/vit_fashion_mnist.py")
    assert in_place.startswith("train.vit_fashion_mnist configs/vit_fashion_mnist_in_place.py")
    assert erased.startswith("train.vit_fashion_mnist configs/vit_fashion_mnist_erased.py")
    assert coded.startswith("train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py")
    assert measure.startswith("eval.accuracy --trained trained/vit-fashion-mnist-g16")
    (tmp_path / "runs" / "vit_fashion_mnist" / "step-000000003").mkdir(parents=True)
    ((first, *_), *_) = [results["training"]("trained/vit-fashion-mnist-shifted")]
    assert first[-1] == "--session.resume"  # it goes on
    shutil.copytree(ROOT / "trained" / "vit-fashion-mnist-g16", tmp_path / "trained" / "vit-fashion-mnist-g16")
    assert results["run"](["--list", "--docs", docs, "--out", str(tmp_path), "--only", "accuracy"]) == 0
    assert "train." not in capsys.readouterr().out
    # What was measured of weights that have been trained anew since is measured again.
    (command,) = results["commands"]("accuracy", docs, tmp_path)
    card = json.loads((tmp_path / "trained" / "vit-fashion-mnist-g16" / "card.json").read_text())
    for sha256, wanted in ((card["sha256"], []), ("0" * 64, [command])):
        found = {"command": shlex.join(["python", *command]), "model_sha256": sha256}
        (tmp_path / "accuracy.json").write_text(json.dumps(found))
        assert results["commands"]("accuracy", docs, tmp_path) == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*codebooks*.py")), ids=lambda path: path.name)
def test_configurations_are_sound(path):
    config = read_config(CodebookRun, [str(path)], "prog")
    assert len({parse_strategy(spec) for spec in config.strategies}) == len(config.strategies)
    text = path.read_text()
    assert f"python -m train.codebooks configs/{path.name}" in text
    assert "Time:" in text
    assert "Result:" in text


def test_every_code_of_the_tables_has_codebooks_in_the_configuration():
    config = read_config(CodebookRun, [str(ROOT / "configs" / "smollm2_codebooks.py")], "prog")
    tables = job("eval/results.py")
    specs = [
        *job("eval/quality.py")["STRATEGIES"],
        *",".join(tables[name] for name in ("ROTATIONS", "AXES", "HALO")).split(","),
    ]
    coded = lambda specs: {(s.codec, s.site) for s in map(parse_strategy, specs) if s.codec.learns}
    assert coded(specs) == coded(config.strategies)


def test_every_part_that_is_left_out_has_codebooks():
    learnt = read_config(CodebookRun, [str(ROOT / "configs" / "smollm2_parts.py")], "prog").strategies
    codecs = {parse_strategy(spec).codec for spec in (*learnt, "sequence:balanced")}
    assert {parse_strategy(spec).codec for spec in job("eval/results.py")["PARTS"]} == codecs


def test_the_table_is_put_between_the_marks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    quality, docs = job("eval/quality.py"), tmp_path / "results.md"
    docs.write_text("# Before\n<!-- short:begin -->\nold\n<!-- short:end -->\nafter\n")
    small = ["--model", "shape:llama-tiny", "--tokens", "16", "--devices", "2", "--windows", "1", "--docs", str(docs)]
    options = ["--strategies", "sequence:int8", "--section", "short", "--json", str(tmp_path / "rows.json")]
    assert quality["run"]([*small, *options]) == 0
    text = docs.read_text()
    assert text.startswith("# Before\n<!-- short:begin -->\n1 windows of 16 tokens")
    assert text.endswith("\n<!-- short:end -->\nafter\n")
    assert "python -m eval.quality --model shape:llama-tiny" in text
    assert "| `sequence:int8` |" in text
    assert "old" not in text
    assert (tmp_path / "rows.json").is_file()
    capsys.readouterr()

    docs.write_text("no marks\n")
    assert main.guarded(lambda: quality["run"]([*small, "--strategies", "sequence:int8"])) == 2
    assert "has no section between" in capsys.readouterr().err
    assert docs.read_text() == "no marks\n"


@pytest.mark.parametrize("name", job("eval/results.py")["SECTIONS"])
def test_the_document_has_its_marks(name):
    before, after = read_section(ROOT / "docs" / "results.md", name)
    assert before
    assert after


def test_results_lists_and_skips_what_is_there(tmp_path, capsys):
    results = job("eval/results.py")
    docs = str(ROOT / "docs" / "results.md")
    (tmp_path / "short.json").write_text("{}")
    options = ["--list", "--docs", docs, "--out", str(tmp_path)]
    assert results["run"]([*options, "--only", "quality,short"]) == 0
    learn, quality, short = capsys.readouterr().out.replace("\n", " ").split("python -m ")[1:]
    assert learn.startswith("train.codebooks configs/smollm2_codebooks.py")
    assert quality.startswith("eval.quality --mesh --windows 32")
    assert "--resume" not in quality
    assert "--tokens 256" in short
    assert "--resume" in short
    (embeddings,) = results["commands"]("embeddings", docs, tmp_path)
    (tmp_path / "embeddings.json").write_text(json.dumps({"command": shlex.join(["python", *embeddings])}))
    assert results["commands"]("embeddings", docs, tmp_path) == []
    (tmp_path / "embeddings.json").write_text(json.dumps({"command": "python -m eval.embeddings --windows 1"}))
    assert results["commands"]("embeddings", docs, tmp_path) == [embeddings]  # it was another one

    assert main.guarded(lambda: results["run"]([*options, "--only", "qualty"])) == 2
    assert "no section 'qualty'" in capsys.readouterr().err
