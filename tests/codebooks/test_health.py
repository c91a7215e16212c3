"""Health figures of a codebook that can be worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codebooks import health as module
from thinwire.codebooks.health import health


def test_figures_by_hand():
    codebook = jnp.asarray([[[0.0, 0], [3, 4], [99, 99]]])
    x_nD = np.asarray([[0, 1], [0, -1], [3, 4], [0, 0]], np.float32)
    figures = health(codebook, x_nD)
    assert figures["usage_min"] == 0
    assert figures["usage_mean"] == pytest.approx(1 / 3)
    assert figures["usage_max"] == 0.75
    assert figures["dead"] == 1
    assert figures["perplexity"] == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert figures["relative_error"] == pytest.approx(2 / ((x_nD - x_nD.mean(0)) ** 2).sum())
    assert figures["norm_min"] == 0
    assert figures["norm_max"] == pytest.approx(99 * np.sqrt(2))
    assert all(type(value) is float for value in figures.values())


def test_even_use_has_the_perplexity_of_its_size():
    rows = np.arange(8, dtype=np.float32)[:, None]
    figures = health(jnp.asarray(rows)[None], rows)
    assert figures["perplexity"] == pytest.approx(8)
    assert figures["relative_error"] == 0
    assert figures["dead"] == 0


def test_chunks_add_up(monkeypatch):
    rng = np.random.default_rng(0)
    codebook = jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)
    x_nD = rng.normal(size=(25, 6)).astype(np.float32)
    whole = health(codebook, x_nD)
    monkeypatch.setattr(module, "_CHUNK", 10)
    assert health(codebook, x_nD) == pytest.approx(whole)
