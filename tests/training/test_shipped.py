"""What was trained and lies in the repository: whole, small, and fit for what its card says."""

from pathlib import Path

import numpy as np
import pytest

from thinwire.cli import inputs
from thinwire.evaluation.accuracy import logits_of_images
from thinwire.evaluation.quality import measure_quality, quality_rows
from thinwire.models.families import FAMILIES
from thinwire.strategies import Single, parse_strategy
from thinwire.training import artefact

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "trained").glob("*/card.json"))
ADAPTERS = [card for card in SHIPPED if artefact.read_card(card.parent).kind == "adapter"]
IMAGES = [card for card in SHIPPED if artefact.read_card(card.parent).family == "vit"]
LARGEST = 8_000_000  # bytes
name = lambda card: card.parent.name


def test_there_is_something():
    assert set(map(name, SHIPPED)) == {"smollm2-compact", "vit-fashion-mnist", "vit-fashion-mnist-g16"}
    assert sorted(ADAPTERS + IMAGES) == SHIPPED


@pytest.mark.parametrize("card", SHIPPED, ids=name)
def test_it_is_whole_and_small(card):
    found = artefact.load(card.parent)
    assert sum(file.stat().st_size for file in card.parent.rglob("*") if file.is_file()) < LARGEST
    assert found.card.command.startswith("python -m train.")


@pytest.mark.parametrize("card", IMAGES, ids=name)
def test_what_tells_pictures_apart_runs(card):
    found = artefact.load(card.parent)
    model, strategy = artefact.open_trained(card.parent), parse_strategy(found.card.strategy)
    devices = 1 if isinstance(strategy, Single) else 4
    told = "test accuracy, 1 device" if devices == 1 else f"test accuracy, {devices} devices"
    assert found.card.figures[told] > 0.85
    rows_BTP = np.random.default_rng(0).standard_normal((2, model.config.tokens, model.config.values), np.float32)
    logits_BC = logits_of_images(model, strategy, devices, artefact.codecs(found, strategy), rows_BTP)
    assert logits_BC.shape == (2, 10)
    assert np.isfinite(logits_BC).all()


@pytest.mark.weights
@pytest.mark.parametrize("card", ADAPTERS, ids=name)
def test_what_reads_text_keeps_most_of_the_context(card):
    found = artefact.load(card.parent)
    model, strategy = artefact.open_trained(card.parent), parse_strategy(found.card.strategy)
    dropped = parse_strategy("sequence:drop")
    windows_WT = inputs.open_windows(model, inputs.DEFAULT_TEXT, "test", 512, 2, 0)
    codecs_of = lambda strategy: artefact.codecs(found, strategy)
    results = measure_quality(model, [dropped, strategy], 4, windows_WT, codecs_of)
    dims = FAMILIES[model.family].dims(model.config)
    without, coded = quality_rows(dims, [dropped, strategy], results, dropped.spec())
    assert coded["kl_to_single"] < 0.4 * without["kl_to_single"]
