"""What was trained and lies in the repository: whole, small, and fit for what its card says."""

from pathlib import Path

import numpy as np
import pytest

from thinwire.evaluation.accuracy import logits_of_images
from thinwire.strategies import Single, parse_strategy
from thinwire.training import artefact

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "trained").glob("*/card.json"))
LARGEST = 8_000_000  # bytes


def test_there_is_something():
    assert {"vit-fashion-mnist", "vit-fashion-mnist-g16"} <= {card.parent.name for card in SHIPPED}


@pytest.mark.parametrize("card", SHIPPED, ids=lambda path: path.parent.name)
def test_it_is_whole_and_small_and_runs(card):
    found = artefact.load(card.parent)
    assert sum(file.stat().st_size for file in card.parent.rglob("*") if file.is_file()) < LARGEST
    assert found.card.command.startswith("python -m train.")
    model, strategy = artefact.open_trained(card.parent), parse_strategy(found.card.strategy)
    devices = 1 if isinstance(strategy, Single) else 4
    told = "test accuracy, 1 device" if devices == 1 else f"test accuracy, {devices} devices"
    assert found.card.figures[told] > 0.85
    rows_BTP = np.random.default_rng(0).standard_normal((2, model.config.tokens, model.config.values), np.float32)
    logits_BC = logits_of_images(model, strategy, devices, artefact.codecs(found, strategy), rows_BTP)
    assert logits_BC.shape == (2, 10)
    assert np.isfinite(logits_BC).all()
