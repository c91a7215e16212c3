"""Jobs of training from data to artefact: images and text, from scratch and on from there, on tiny data."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from eval import ablate
from eval import accuracy as accuracy_job

from data.sets import write_idx
from thinwire.data.augment import Augment
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.accuracy import logits_of_images
from thinwire.models.vit import classify
from thinwire.strategies import Single, parse_strategy
from thinwire.training import artefact, beginning
from thinwire.training.adapters import LoRA
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.image_run import ImageModel, ImageRun, images_to_test, random_model, train_images
from thinwire.training.log import read_log
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session
from thinwire.training.text_run import TextModel, TextRun, train_text

CODED = "sequence:vq:groups=4:size=16:site=x"


@pytest.fixture(scope="module")
def bright_quarters(tmp_path_factory):
    """Images of 8 by 8 pixels of four classes: which quarter is bright."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 300), ("test", 40)):
        labels_N = np.arange(count) % 4
        images_NYX = rng.integers(0, 100, (count, 8, 8))
        for image, label in zip(images_NYX, labels_N, strict=True):
            image[4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 120
        write_idx(folder, split, images_NYX, labels_N)
    return folder


def image_run(images, folder, **changes):
    config = ImageRun(
        session=Session(folder / "run"),
        out=folder / "trained",
        recipe=Recipe("single", devices=(1,), noise=0.0),
        optimiser=Optimiser(rate=5e-3, steps=80, warmup=5),
        data=str(images),
        held_out=60,
        sizes=ImageModel(width=16, layers=2, heads=2, hidden=32, patch=4, side=8),
        augment=Augment(),
        calibration=40,
        pace=Pace(batch=32, log_every=10, save_every=20, evaluate_every=20),
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def from_scratch(bright_quarters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    return folder / "trained", train_images(image_run(bright_quarters, folder), "train it")


def coded_run(bright_quarters, from_scratch, folder, **changes):
    recipe = Recipe(CODED, devices=(4,))
    optimiser = Optimiser(rate=2e-3, steps=20, warmup=1)
    settings = {"start": from_scratch[0], "recipe": recipe, "optimiser": optimiser, **changes}
    return image_run(bright_quarters, folder, **settings)


def test_images_are_learnt_and_then_with_coded_context(bright_quarters, from_scratch, tmp_path, capsys):
    _, made = from_scratch
    assert made.card.figures["test accuracy, 1 device"] > 0.9
    coded = train_images(coded_run(bright_quarters, from_scratch, tmp_path), "train it on")
    assert coded.card.figures["test accuracy, 4 devices"] > 0.8
    assert set(coded.codecs["x"]) == {"codebook"}
    out = tmp_path / "accuracy.json"
    assert accuracy_job.run(["--trained", str(tmp_path / "trained"), "--devices", "2,4", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    by = {(row["strategy"], row["devices"]): row["accuracy"] for row in rows}
    assert by["single", 1] == pytest.approx(coded.card.figures["test accuracy, 1 device"])
    assert by[CODED, 4] == pytest.approx(coded.card.figures["test accuracy, 4 devices"])
    assert len(rows) == 1 + 2 * 4


@pytest.mark.thorough
def test_a_pretrained_model_learns_with_an_adapter_and_goes_on_with_it(bright_quarters, tmp_path, monkeypatch):
    """Its weights stay, the adapter and the head are all that is kept, and the second training begins with them."""
    pretrained = dataclasses.replace(
        random_model(image_run(bright_quarters, tmp_path), 4, 1), name="a-vit", sha256="5" * 64
    )
    monkeypatch.setattr(beginning, "load_model", lambda name: {"a-vit": pretrained}[name])
    monkeypatch.setattr(artefact, "load_model", lambda name: {"a-vit": pretrained}[name])
    lora = LoRA(rank=4, alpha=8.0, targets=("attention", "mlp", "top"))
    optimiser = Optimiser(rate=5e-3, steps=140, warmup=5)
    settings = {"model": "a-vit", "train": "adapter", "lora": lora, "optimiser": optimiser}
    first = train_images(image_run(bright_quarters, tmp_path / "first", **settings), "train it")
    assert first.card.kind == "adapter"
    assert first.card.figures["test accuracy, 1 device"] > 0.9
    on = {"train": "adapter", "start": tmp_path / "first" / "trained"}
    config = coded_run(bright_quarters, (tmp_path / "first" / "trained",), tmp_path / "second", **on)
    second = train_images(config, "train it on")
    assert second.card.model_sha256 == pretrained.sha256
    assert second.card.figures["test accuracy, 4 devices"] > 0.8
    model = artefact.open_trained(tmp_path / "second" / "trained")
    _, rows_BTP = images_to_test(second.card, None, 4)
    logits_BC = logits_of_images(model, parse_strategy(CODED), 4, second.codecs, rows_BTP)
    assert not np.allclose(logits_BC, logits_of_images(pretrained, Single(), 1, {}, rows_BTP), atol=0.1)


@pytest.mark.thorough
def test_what_was_learnt_runs_as_any_model_does(bright_quarters, from_scratch, tmp_path):
    """The batched accuracy is that of engines, image by image."""
    made = train_images(coded_run(bright_quarters, from_scratch, tmp_path), "train it on")
    model, strategy = artefact.from_scratch(made), parse_strategy(CODED)
    _, rows_BTP = images_to_test(made.card, None, 5)
    together = logits_of_images(model, strategy, 4, made.codecs, rows_BTP, batch=3)
    engine = Engine(model, strategy, 4, made.codecs)
    for rows_TP, logits in zip(rows_BTP, together, strict=True):
        np.testing.assert_allclose(classify(model.params, engine.logits(rows_TP)), logits, atol=1e-4)


@pytest.mark.thorough
def test_one_thing_is_changed_at_a_time(bright_quarters, from_scratch, tmp_path, monkeypatch):
    config = coded_run(bright_quarters, from_scratch, tmp_path, optimiser=Optimiser(rate=1e-3, steps=2, warmup=1))
    monkeypatch.setattr(ablate, "read_config", lambda kind, arguments, prog: config)
    out = tmp_path / "ablate.json"
    common = ["config.py", "--folder", str(tmp_path / "runs"), "--json", str(out), "--seeds", "0,1"]
    assert ablate.run([*common, "--variants", "as-configured"]) == 0
    first = json.loads(out.read_text())["rows"]
    assert ablate.run([*common, "--variants", "as-configured,one-class-token", "--resume"]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert rows[: len(first)] == first
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (name, seed) for name in ("as-configured", "one-class-token") for seed in (0, 1)
    ]
    assert "class_tokens=one" in rows[-1]["strategy"]
    with pytest.raises(ThinwireError, match="no variant 'nonsense'"):
        ablate.run([*common, "--variants", "nonsense"])
    # What is not asked for is kept in the file, and not taken for what is.
    (tmp_path / "doc.md").write_text("<!-- ablation:begin -->\n<!-- ablation:end -->\n")
    asked = ["--variants", "one-class-token", "--docs", str(tmp_path / "doc.md"), "--resume"]
    assert ablate.run([*common, *asked]) == 0
    assert sorted(map(str, json.loads(out.read_text())["rows"])) == sorted(map(str, rows))
    assert "| as-configured |" not in (tmp_path / "doc.md").read_text()
    with pytest.raises(ThinwireError, match="one-class-token, seed 0 of other settings than these: start afresh"):
        ablate.run([*common, "--variants", "one-class-token", "--resume", "--steps", "3"])
    out.write_text(json.dumps({**json.loads(out.read_text()), "model_sha256": "0" * 64}))
    with pytest.raises(ThinwireError, match="is of other weights than"):
        ablate.run([*common, *asked])


@pytest.mark.thorough
def test_a_run_is_spread_over_all_devices_and_goes_on_on_one(bright_quarters, from_scratch, tmp_path):
    optimiser = Optimiser(rate=2e-3, steps=6, warmup=1)
    pace = Pace(batch=32, log_every=1, save_every=3)
    config = coded_run(bright_quarters, from_scratch, tmp_path, optimiser=optimiser, pace=pace)
    train_images(config, "train it")
    spread = dataclasses.replace(
        config, session=Session(tmp_path / "spread"), out=tmp_path / "other", spread="examples"
    )
    train_images(spread, "train it")
    shutil.rmtree(tmp_path / "spread" / "step-000000006")
    on_one = dataclasses.replace(spread, spread="", session=Session(tmp_path / "spread", resume=True))
    train_images(on_one, "train it")
    alone, mixed = ([record["loss"] for record in read_log(tmp_path / run)] for run in ("run", "spread"))
    assert len(mixed) == 6
    np.testing.assert_allclose(mixed, alone, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"held_out": 0}, "held_out is 0; use 1 or more"),
        ({"held_out": 300}, "cannot be held out"),
        ({"calibration": 0}, "calibration is 0; use 1 or more"),
        ({"seed": -1}, "seed is -1; use 0 or more"),
        ({"tests": -5}, "tests is -5"),
        ({"sizes": ImageModel(width=15, heads=2)}, "use numbers that divide"),
        ({"train": "adapter"}, "train=weights"),
        ({"model": "shape:vit-base"}, "tells 0 classes apart in images of 3 colours and .* 4 in 1"),
        ({"model": "shape:llama-tiny"}, "reads no images"),
        ({"pace": Pace(batch=1000)}, "batch of 1000 is more"),
        ({"data": "nowhere"}, "no folder of images"),
    ],
)
def test_images_that_cannot_be_learnt_are_refused(bright_quarters, tmp_path, changes, said):
    with pytest.raises(ThinwireError, match=said):
        train_images(image_run(bright_quarters, tmp_path, **changes), "train it")
    assert not (tmp_path / "trained").exists()


def text_run(text, folder, **changes):
    config = TextRun(
        session=Session(folder / "run"),
        out=folder / "trained",
        recipe=Recipe("single", devices=(1,), noise=0.0),
        optimiser=Optimiser(rate=3e-3, steps=60, warmup=2),
        model="scratch",
        sizes=TextModel(width=32, layers=2, heads=2, context=32),
        train="weights",
        texts=(str(text),),
        tokens=32,
        held_out=4,
        calibration=CalibrationJob(windows=16, window=32, rows=400),
        pace=Pace(batch=8, log_every=10, save_every=30),
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.thorough
def test_text_is_learnt_from_scratch_and_then_with_coded_context(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 100)
    plain = train_text(text_run(text, tmp_path / "plain"), "train it")
    assert plain.card.figures["held-out perplexity_single"] < 100  # of 256
    recipe = Recipe("sequence:vq:groups=4:size=16:site=x", devices=(2,))
    start = {"start": tmp_path / "plain" / "trained", "recipe": recipe}
    coded = train_text(text_run(text, tmp_path / "coded", **start), "train it on")
    assert 0.9 < coded.card.figures["held-out perplexity_ratio"] < 1.5
    assert coded.card.data["went on from"] == {"identity": plain.card.sha256, "commands": ["train it"]}
    model = artefact.from_scratch(coded)  # which reads the bytes of a text
    assert model.tokenizer is not None
    assert model.tokenizer.decode(model.tokenizer.encode("ein Gruß")) == "ein Gruß"
    manifest = json.loads((tmp_path / "coded" / "run" / "codebooks-at-the-start" / "manifest.json").read_text())
    assert manifest["data"]["job"]["window"] == 32
    with pytest.raises(ThinwireError, match=r"no base model .* train=weights"):
        train_text(text_run(text, tmp_path / "other", train="adapter"), "train it")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": 0}, "tokens is 0; use 2 or more"),
        ({"seed": -1}, "seed is -1; use 0 or more"),
        ({"held_out": 0}, "held_out is 0; use 1 or more"),
        ({"windows": -1}, "windows is -1; use 0 or more"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, changes, said):
    with pytest.raises(ThinwireError, match=said):
        text_run("text.txt", tmp_path, **changes)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ImageModel(layers=0), "layers is 0; use 1 or more"),
        (lambda: ImageModel(stem=-3), "stem is -3; use 0 or more"),
        (lambda: TextModel(layers=0), "layers is 0; use 1 or more"),
        (lambda: CalibrationJob(windows=0), "windows is 0; use 1 or more"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, said):
    with pytest.raises(ThinwireError, match=said):
        make()
