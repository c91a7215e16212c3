"""Quality figures against their definitions in float64."""

import dataclasses

import numpy as np
import pytest

from thinwire.evaluation.metrics import Distance, distance, summarise

T, V = 150, 40  # more rows than are worked on at a time


@pytest.fixture
def run():
    rng = np.random.default_rng(0)
    single = rng.normal(0, 3, (T, V)).astype(np.float32)
    other = single + rng.normal(0, 0.5, (T, V)).astype(np.float32)
    return other, single, rng.integers(0, V, T).astype(np.int32)


def log_softmax(logits):
    shifted = logits.astype(float) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(single, other):
    log_p, log_q = log_softmax(single), log_softmax(other)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1)


def test_definitions(run):
    other, single, ids = run
    found = distance(other, single, ids)
    at = np.arange(T - 1)
    assert found.predicted == T - 1
    assert found.nll == pytest.approx(-log_softmax(other)[at, ids[1:]].sum(), rel=1e-5)
    assert found.nll_single == pytest.approx(-log_softmax(single)[at, ids[1:]].sum(), rel=1e-5)
    assert found.kl == pytest.approx(divergence(single, other)[:-1].sum(), rel=1e-4)
    assert found.top1 == (other.argmax(1) == single.argmax(1))[:-1].sum()
    assert 0 < found.top1 < T - 1
    assert found.max_abs == np.abs(other - single).max()
    quality = summarise([found])
    assert quality.perplexity == pytest.approx(np.exp(-log_softmax(other)[at, ids[1:]].mean()), rel=1e-5)
    assert quality.perplexity_ratio == pytest.approx(np.exp((found.nll - found.nll_single) / (T - 1)))
    assert quality.kl_to_single == found.kl / (T - 1)
    assert quality.top1_agreement == found.top1 / (T - 1)


def test_the_same_logits_are_no_distance(run):
    _, single, ids = run
    found = distance(single, single, ids)
    assert (found.kl, found.max_abs, found.top1) == (0.0, 0.0, T - 1)
    assert summarise([found]).perplexity_ratio == 1.0


@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-3, 0.1, 10.0])
def test_a_divergence_is_never_negative_and_small_ones_are_not_noise(run, size):
    _, single, ids = run
    other = single + np.random.default_rng(1).normal(0, size, single.shape).astype(np.float32)
    found = distance(other, single, ids).kl
    exact = divergence(single, other)[:-1].sum()
    assert found >= 0
    assert found == pytest.approx(exact, rel=0.02 if size >= 1e-3 else 1.0, abs=1e-9)


def test_far_apart_logits_stay_finite(run):
    _, single, ids = run
    single, other = 100 * single, -100 * single
    found = distance(other, single, ids)
    assert found.kl == pytest.approx(divergence(single, other)[:-1].sum(), rel=1e-4)
    assert np.isfinite(found.nll)


def test_the_last_position_predicts_nothing(run):
    other, single, ids = run
    changed = other.copy()
    changed[-1] += 100
    before, after = distance(other, single, ids), distance(changed, single, ids)
    assert after.max_abs > 90 > before.max_abs
    assert dataclasses.replace(after, max_abs=before.max_abs) == before


def test_nothing_hides_a_nan(run):
    other, single, ids = run
    other[3, 5] = np.nan
    quality = summarise([distance(single, single, ids), distance(other, single, ids)])
    assert np.isnan(quality.perplexity)
    assert np.isnan(quality.max_abs_logit_difference)


def test_windows_are_put_together_by_tokens_and_the_error_is_that_of_their_mean():
    found = [
        Distance(10, 20.0, 19.0, 1.0, 9, 0.5),
        Distance(10, 30.0, 28.0, 2.0, 8, 0.7),
        Distance(10, 10.0, 10.0, 0.0, 10, 0.0),
    ]
    quality = summarise(found)
    assert quality.perplexity == pytest.approx(np.exp(60 / 30))
    ratio = np.exp((60 - 57) / 30)
    assert quality.perplexity_ratio == pytest.approx(ratio)
    changes = [0.1, 0.2, 0.0]
    variance = sum((x - 0.1) ** 2 for x in changes) / 2
    assert quality.standard_error == pytest.approx(ratio * np.sqrt(variance / 3))
    assert quality.kl_to_single == pytest.approx(0.1)
    assert quality.top1_agreement == pytest.approx(0.9)
    assert quality.max_abs_logit_difference == 0.7
    assert np.isnan(summarise(found[:1]).standard_error)
