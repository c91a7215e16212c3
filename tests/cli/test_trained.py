"""--trained: the commands run what a training has saved, with its codebooks, and say which it was."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from thinwire.benchmark.worker import Worker
from thinwire.cli import main as entry
from thinwire.cli.main import main
from thinwire.engine import Engine
from thinwire.evaluation.metrics import distance, summarise
from thinwire.models.families import FAMILIES
from thinwire.strategies import Single, parse_strategy
from thinwire.training import adapters, artefact
from thinwire.weights.load import load_model

ROOT = Path(__file__).parents[2]
SPEC = "sequence:vq:groups=2:size=8"
SHAPE = "shape:llama-tiny"
SMALL = ["--model", SHAPE, "--tokens", "24", "--devices", "2"]


def train(folder, name=SHAPE, spec=SPEC, from_scratch=False):
    """What a training of the model would have saved: an adapter, or whole weights; with random codebooks."""
    model, strategy = load_model(name), parse_strategy(spec)
    family, lora = FAMILIES[model.family], None if from_scratch else adapters.LoRA(rank=2)
    dims, key = family.dims(model.config), jax.random.key(3)
    if lora is None:
        arrays = jax.tree.map(lambda x: 3 * x, model.params)
    else:
        arrays = jax.tree.map(lambda x: x + np.float32(0.1), adapters.init(lora, key, family, model.config))
    (site,) = strategy.sites(dims)
    codecs = {site: strategy.codec.init_params(key, dims.layers, dims.site_dim(site))}
    card = artefact.describe(model, strategy, lora, {"source": "words"}, 0, "a command", from_scratch=from_scratch)
    artefact.save(folder, artefact.Artefact(card, arrays, codecs))
    return str(folder)


def test_compare_takes_its_own_codebooks_and_strategy(place, capsys):
    folder = train(place / "art")
    assert main(["compare", *SMALL, "--trained", folder, "--json", "rows.json"]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert [row["strategy"] for row in document["rows"]] == ["single", "sequence:float32", SPEC]
    assert document["trained"]["model"] == SHAPE
    assert document["trained"]["lora"] == {"rank": 2, "alpha": 16.0, "targets": ["attention", "mlp"]}
    assert document["model_sha256"] == document["trained"]["sha256"] != document["trained"]["model_sha256"]
    assert f"{SHAPE}+adapter-{document['model_sha256'][:8]}, 2 devices" in capsys.readouterr().out
    assert not (place / "cache" / "codebooks").exists()  # none were learnt

    assert main(["compare", *SMALL, "--strategies", "single", "--json", "base.json"]) == 0
    base = json.loads((place / "base.json").read_text())
    assert "trained" not in base
    assert base["rows"][0]["perplexity"] != pytest.approx(document["rows"][0]["perplexity"])


def test_codebooks_of_another_strategy_are_learnt_for_the_trained_model(place, little_calibration, capsys):
    folder, other = train(place / "art"), "sequence:vq:groups=4:size=8"
    assert main(["compare", *SMALL, "--trained", folder, "--strategies", f"{SPEC},{other}"]) == 0
    assert f"no codebooks yet for {other}: learning" in capsys.readouterr().err
    sha256 = artefact.load(folder).card.sha256
    (learnt,) = (place / "cache" / "codebooks").glob("*/*")
    assert learnt.parent.name.startswith(sha256[:16])


def test_run_goes_on_by_the_strategy_that_was_trained(place, model, capsys):
    folder = train(place / "art", model)
    command = ["run", "--model", model, "--prompt", "the rain in the inner ring", "--max-tokens", "4", "--devices", "2"]
    assert main([*command, "--trained", folder, "--json", "run.json"]) == 0
    told = json.loads((place / "run.json").read_text())
    assert told["strategy"] == SPEC
    assert told["model"].startswith(f"{model}+adapter-")
    assert "learning" not in capsys.readouterr().err
    assert main([*command, "--trained", folder, "--strategy", "sequence:int8"]) == 0
    books = ["--codebooks", f"{folder}/codebooks"]
    assert main([*command, "--trained", folder, "--strategy", SPEC, *books, "--json", "again.json"]) == 0
    assert json.loads((place / "again.json").read_text())["text"] == told["text"]


def test_a_model_from_scratch_needs_no_other_and_reads_the_bytes_of_a_text(place, text):
    folder = train(place / "art", from_scratch=True)
    read = ["--tokens", "24", "--devices", "2", "--text", text, "--json", "rows.json"]
    assert main(["compare", *read, "--trained", folder]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert (document["model"], document["trained"]["kind"]) == (SHAPE, "weights")
    assert document["prompt_source"] == f"{text}, held-out part"


def test_bench_predicts_and_its_hosts_open_the_trained_model(place):
    folder = train(place / "art")
    command = ["bench", "--model", SHAPE, "--tokens", "24", "--hosts", "2", "--mbps", "10", "--predict"]
    assert main([*command, "--trained", folder, "--json", "rows.json"]) == 0
    document = json.loads((place / "rows.json").read_text())
    sha256 = artefact.load(folder).card.sha256
    assert [row["strategy"] for row in document["rows"]] == ["single", "sequence:float32", SPEC]
    assert (document["model_sha256"], document["trained"]["strategy"]) == (sha256, SPEC)

    worker = Worker(say=lambda answer: None)
    assert worker.open(SHAPE, "float32", folder) == {"model_sha256": sha256}
    assert worker.open(SHAPE, "float32") == {"model_sha256": load_model(SHAPE).sha256}
    assert worker.open("nothing", "float32", train(place / "alone", from_scratch=True))


def test_quality_is_against_the_trained_single_device_and_tells_the_base(place, capsys):
    folder = train(place / "art")
    quality = runpy.run_path(str(ROOT / "eval" / "quality.py"))["run"]
    options = [*SMALL, "--windows", "2", "--trained", folder, "--strategies", f"sequence:float32,{SPEC}"]
    (place / "doc.md").write_text("<!-- quality:begin -->\n<!-- quality:end -->\n")
    assert quality([*options, "--json", "rows.json", "--docs", "doc.md"]) == 0
    document = json.loads((place / "rows.json").read_text())
    assert [row["strategy"] for row in document["rows"]] == ["sequence:drop", "sequence:float32", SPEC]
    exact = document["rows"][1]
    assert exact["perplexity_ratio"] == pytest.approx(1, abs=1e-4)

    base = load_model(SHAPE)
    windows_WT = np.random.default_rng([0, True]).integers(0, 256, (2, 24), dtype=np.int32)
    perplexity = {}
    for name, model in (("base", base), ("trained", artefact.apply(artefact.load(folder), base))):
        logits_WTV = [Engine(model, Single()).logits(ids_T) for ids_T in windows_WT]
        found = [distance(x_TV, x_TV, ids_T) for x_TV, ids_T in zip(logits_WTV, windows_WT, strict=True)]
        perplexity[name] = summarise(found).perplexity
    assert {row["base_perplexity"] for row in document["rows"]} == {exact["base_perplexity"]}
    assert exact["base_perplexity"] == pytest.approx(perplexity["base"], rel=1e-4)
    assert exact["perplexity"] == pytest.approx(perplexity["trained"], rel=1e-4)
    assert perplexity["base"] != pytest.approx(perplexity["trained"], rel=1e-3)
    note = f"{perplexity['trained']:.2f} with the trained weights, {perplexity['base']:.2f} before"
    assert note in (place / "doc.md").read_text()
    capsys.readouterr()

    assert quality([*options, "--json", "rows.json", "--resume"]) == 0  # nothing is left to do
    assert json.loads((place / "rows.json").read_text())["rows"] == document["rows"]
    fewer = [*options[:-6], "--windows", "1", *options[-4:], "--json", "rows.json", "--resume"]
    assert quality(fewer) == 0
    assert {row["windows"] for row in json.loads((place / "rows.json").read_text())["rows"]} == {1}
    capsys.readouterr()
    untrained = [*SMALL, "--windows", "2", "--strategies", "sequence:float32", "--json", "rows.json", "--resume"]
    assert entry.guarded(lambda: quality(untrained)) == 2
    assert "was measured with model_sha256" in capsys.readouterr().err


def test_adapters_beside_one_another_are_each_against_their_own_single_device_and_the_base(place, capsys):
    folders = [train(place / "one"), train(place / "two", spec="sequence:int4")]
    adapters_of = runpy.run_path(str(ROOT / "eval" / "adapters.py"))["run"]
    quality = runpy.run_path(str(ROOT / "eval" / "quality.py"))["run"]
    (place / "doc.md").write_text("<!-- adapters:begin -->\n<!-- adapters:end -->\n")
    read = ["--tokens", "24", "--devices", "2", "--windows", "2"]
    assert adapters_of(["--trained", ",".join(folders), *read, "--json", "all.json", "--docs", "doc.md"]) == 0
    rows = json.loads((place / "all.json").read_text())["rows"]
    assert [(row["folder"], row["strategy"]) for row in rows] == [("one", SPEC), ("two", "sequence:int4")]
    for folder, row in zip(folders, rows, strict=True):
        assert quality(["--trained", folder, *read, "--strategies", row["strategy"], "--json", "one.json"]) == 0
        alone = json.loads((place / "one.json").read_text())["rows"][-1]
        same = ("perplexity", "perplexity_ratio", "standard_error", "kl_to_single", "base_perplexity", "compression")
        assert [row[name] for name in same] == [pytest.approx(alone[name], rel=1e-6) for name in same]
        assert row["base_ratio"] == pytest.approx(row["perplexity"] / row["base_perplexity"])
        assert row["single_perplexity"] == pytest.approx(row["perplexity"] / row["perplexity_ratio"])
        assert row["base_standard_error"] > 0
    assert rows[0]["single_perplexity"] != pytest.approx(rows[0]["base_perplexity"], rel=1e-3)
    before = json.loads((place / "all.json").read_text())
    more = [*folders, train(place / "three", spec="sequence:int8")]
    assert adapters_of(["--trained", ",".join(more), *read, "--json", "all.json", "--resume"]) == 0
    assert json.loads((place / "all.json").read_text())["rows"][:2] == before["rows"]
    assert [row["folder"] for row in json.loads((place / "all.json").read_text())["rows"]] == ["one", "two", "three"]
    other = [*read[:-1], "1", "--json", "all.json", "--resume"]
    capsys.readouterr()
    assert entry.guarded(lambda: adapters_of(["--trained", folders[0], *other])) == 2
    assert "was measured with windows 2, not 1" in capsys.readouterr().err
    written = (place / "doc.md").read_text()
    assert f"| one | `{SPEC}` |" in written
    assert "python -m eval.adapters --trained" in written


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda place: train(place / "two", from_scratch=True), "trained from scratch"),
        (lambda place: train(place / "two", "shape:llama-tiny:layers=1"), "compare adapters of one model"),
        (lambda place: train(place / "other" / "one"), "two folders are named one"),
        (lambda place: "nowhere", "nowhere"),
    ],
)
def test_adapters_that_do_not_compare(place, second, words, capsys):
    (place / "other").mkdir()
    folders = f"{train(place / 'one')},{second(place)}"
    adapters_of = runpy.run_path(str(ROOT / "eval" / "adapters.py"))["run"]
    assert entry.guarded(lambda: adapters_of(["--trained", folders, "--tokens", "24", "--devices", "2"])) == 2
    assert words in capsys.readouterr().err


@pytest.fixture
def folders(place):
    """An adapter, weights from scratch, and what is neither."""
    damaged = Path(train(place / "damaged"))
    (damaged / "adapter.safetensors").write_bytes(b"")
    (place / "empty").mkdir()
    return {
        "adapter": train(place / "adapter"),
        "scratch": train(place / "scratch", from_scratch=True),
        "damaged": str(damaged),
        "empty": str(place / "empty"),
        "nothing": str(place / "nothing"),
    }


@pytest.mark.parametrize(
    ("which", "argv", "words"),
    [
        ("nothing", ["compare"], "There are no trained weights at .*nothing: name a folder that a training has saved"),
        ("empty", ["compare"], r"empty is not a trained artefact: it has no card\.json"),
        ("damaged", ["compare"], r"damaged are damaged: the hash of adapter\.safetensors is not what card\.json says"),
        ("damaged", ["bench", "--predict"], "are damaged: the hash"),
        ("damaged", ["run", "--prompt", "x"], "are damaged: the hash"),
        (
            "adapter",
            ["compare", "--model", "shape:llama-tiny:layers=3"],
            "are for shape:llama-tiny, not shape:llama-tiny:",
        ),
        ("scratch", ["compare", "--model", SHAPE], "were trained from scratch and need no other model; leave --model"),
        (
            "adapter",
            ["run", "--prompt", "x", "--strategy", "sequence:vq:groups=4"],
            f"trained with, which are for {SPEC}",
        ),
    ],
)
def test_mistakes(folders, refuses, which, argv, words):
    refuses([*argv, "--trained", folders[which]], words)
