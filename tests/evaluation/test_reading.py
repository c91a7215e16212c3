"""What is lost on text and on images, told in one number, kept in a file and put together."""

import dataclasses
import json
import math

import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.evaluation.images import ImageDistance, image_figures, measure_images
from thinwire.evaluation.injection import injected
from thinwire.evaluation.metrics import Distance, summarise
from thinwire.evaluation.quality import measure_quality
from thinwire.evaluation.reading import Reading, against, figures, pooled, read_by, unwritten, written
from thinwire.models.vit import classify
from thinwire.reports.json_file import to_json
from thinwire.strategies import parse_strategies

WINDOWS = np.stack([tiny.ids(21, seed) for seed in (3, 4)])
VIEWS = np.stack([tiny_vit.image(seed) for seed in range(4)])
EXACT, COARSE = parse_strategies("sequence:float32,sequence:int2")
NOTHING = lambda strategy: {}


@pytest.fixture(scope="module")
def single_classes():
    return np.array([classify(tiny_vit.model().params, tiny_vit.single_features(seed)).argmax() for seed in range(4)])


@pytest.fixture(scope="module")
def seen(single_classes):
    """Every other label is what the single device says."""
    labels_W = np.where(np.arange(4) % 2 == 0, single_classes, (single_classes + 1) % 7)
    reading = Reading(VIEWS, labels_W=labels_W)
    return reading, read_by(tiny_vit.model(), [EXACT, COARSE], 3, reading, NOTHING)


def test_text_is_perplexity():
    reading = Reading(WINDOWS)
    assert (reading.images, reading.measure) == (False, "perplexity")
    found = read_by(tiny.model(), [COARSE], 3, reading, NOTHING)
    assert found == measure_quality(tiny.model(), [COARSE], 3, WINDOWS, NOTHING)
    row = figures(reading, found[COARSE.spec()])
    assert row["loss"] == row["perplexity_ratio"] - 1
    assert row["inputs"] == 2


def test_strategies_of_one_device_stand_beside_those_of_many():
    """A mesh or a number of devices is not for them."""
    here = injected("all_kv", "int4")
    found = measure_quality(tiny.model(), [here, COARSE], 3, WINDOWS, NOTHING, (2.0, 1.0, 1.0))
    assert found[here.spec()] == measure_quality(tiny.model(), [here], 1, WINDOWS, NOTHING)[here.spec()]


def test_images_with_labels_are_accuracy(seen):
    reading, found = seen
    assert (reading.images, reading.measure) == (True, "accuracy")
    exact = figures(reading, found[EXACT.spec()])
    assert (exact["accuracy"], exact["accuracy_single"], exact["same_class"], exact["loss"]) == (0.5, 0.5, 1.0, 0.0)
    assert exact["class_cosine"] == pytest.approx(1, abs=1e-6)
    coarse = figures(reading, found[COARSE.spec()])
    assert 0.5 < coarse["patch_cosine"] < 0.99
    assert coarse["loss"] == coarse["accuracy_single"] - coarse["accuracy"]


def test_images_without_labels_are_cosines(single_classes):
    reading = Reading(VIEWS, image_W=np.array([0, 1, 0, 1]))
    assert reading.measure == "cosine"
    row = figures(reading, read_by(tiny_vit.model(), [COARSE], 3, reading, NOTHING)[COARSE.spec()])
    assert row["loss"] == pytest.approx(1 - row["class_cosine"])
    assert math.isnan(row["accuracy"])
    assert 0 <= row["same_class"] <= 1


def test_a_model_without_a_head_names_no_class():
    model = tiny_vit.model(classes=0)
    one = measure_images(model, [EXACT], 3, VIEWS[:1], NOTHING, np.zeros(1, int))[EXACT.spec()][0]
    assert math.isnan(one.same_class)
    assert math.isnan(one.right)


def test_errors_of_accuracy_are_those_of_pairs():
    right = [(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]
    found = image_figures([ImageDistance(1.0, 1.0, 1.0, a, b) for a, b in right])
    assert (found["accuracy"], found["accuracy_single"], found["accuracy_lost"]) == (0.75, 0.75, 0.0)
    assert found["accuracy_lost_error"] == pytest.approx(np.std([0, 1, 0, -1], ddof=1) / 2)


def test_what_is_kept_in_a_file_comes_back(seen):
    reading, found = seen
    assert unwritten(reading, json.loads(to_json(written(found)))) == found
    bare = Reading(VIEWS)
    without = {"a": [ImageDistance(0.5, 0.25)]}
    (back,) = unwritten(bare, json.loads(to_json(written(without))))["a"]
    assert (back.class_cosine, back.patch_cosine) == (0.5, 0.25)
    assert math.isnan(back.right)


def test_draws_put_together():
    reading = Reading(WINDOWS)
    draws = [[Distance(10, 30.0, 20.0, 1.0, 5, 0.5)], [Distance(10, 40.0, 20.0, 3.0, 4, 2.5)]]
    assert pooled(reading, draws) == [Distance(20, 70.0, 40.0, 4.0, 9, 2.5)]
    pictures = [[ImageDistance(0.5, 0.5, 1.0, 1.0, 1.0)], [ImageDistance(1.0, 0.5, 0.0, 0.0, 1.0)]]
    assert pooled(Reading(VIEWS), pictures) == [ImageDistance(0.75, 0.5, 0.5, 0.5, 1.0)]


def test_beside_another_strategy():
    reading = Reading(WINDOWS)
    one, other = Distance(20, 66.0, 40.0, 1.0, 5, 0.5), Distance(10, 30.0, 20.0, 1.0, 5, 0.5)
    (beside,) = against(reading, [one], [other])
    assert beside == dataclasses.replace(one, nll_single=60.0)
    assert summarise([beside]).perplexity_ratio == pytest.approx(math.exp(0.3))
    wrong = ImageDistance(1.0, 1.0, 1.0, 0.0, 1.0)
    (seen,) = against(Reading(VIEWS), [dataclasses.replace(wrong, right=1.0)], [wrong])
    assert (seen.right, seen.right_single) == (1.0, 0.0)
