"""The metric in which errors of keys and values are counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Single, parse_strategy
from thinwire.training import sensitivity as sensitivity_module
from thinwire.training.calibrate import METRIC, CalibrationJob, collect
from thinwire.training.rotation import balanced, by_fisher, by_half
from thinwire.training.sensitivity import _ERROR, _SeenWithError, sensitivity

TOKENS = 24


@functools.cache
def program(strategy):
    model = tiny.model()
    family = FAMILIES[model.family]
    dims = family.dims(model.config)
    setting = Setting(dims, strategy.layout(dims, TOKENS, 1, None))
    params = jax.tree.map(jnp.asarray, model.params)

    @jax.jit
    def run(ids_T, error_LTD):
        arrays = {_ERROR: {"rows": error_LTD}}
        x_TD, _ = family.forward(params, model.config, ids_T, jnp.arange(TOKENS), strategy, setting, arrays)
        return jax.nn.log_softmax(family.unembed(params, x_TD))

    return run


def outputs(strategy, ids_T, error_LTD=None):
    error_LTD = np.zeros((2, TOKENS, 48)) if error_LTD is None else error_LTD
    return program(strategy)(jnp.asarray(ids_T), jnp.asarray(error_LTD, jnp.float32))


@pytest.fixture(scope="module")
def windows_WT():
    return np.stack([tiny.ids(TOKENS, 300 + w) for w in range(40)])


@pytest.fixture(scope="module")
def metric_LDD(windows_WT):
    return sensitivity(tiny.model(), windows_WT)


def test_without_an_error_it_is_the_single_device(windows_WT):
    for ids_T in windows_WT[:3]:
        np.testing.assert_allclose(outputs(_SeenWithError(), ids_T), outputs(Single(), ids_T), atol=2e-5)


@pytest.mark.parametrize("model", [tiny.model, tiny_vit.model])
def test_tiles_of_queries_change_nothing(model, monkeypatch):
    """17 tokens of pictures, 24 of text; the last tile is not full."""
    language = FAMILIES[model().family].dims(model().config).language
    inputs = np.stack([tiny.ids(TOKENS, w) if language else tiny_vit.image(w) for w in range(2)])
    whole_LDD = sensitivity(model(), inputs)
    monkeypatch.setattr(sensitivity_module, "_TILE", 7)
    np.testing.assert_allclose(sensitivity(model(), inputs), whole_LDD, rtol=1e-4, atol=1e-6 * np.abs(whole_LDD).max())


@pytest.mark.parametrize("layer", [0, 1])
def test_an_error_that_the_metric_counts_for_more_moves_predictions_more(layer, metric_LDD, windows_WT):
    size_D, axes_DD = np.linalg.eigh(metric_LDD[layer].astype(np.float64))

    def moved(axis_D):
        total = 0.0
        for ids_T in windows_WT[:6]:
            error_LTD = np.zeros((2, TOKENS, 48))
            error_LTD[layer, 3] = 0.3 * axis_D
            clean_TV, found_TV = outputs(Single(), ids_T), outputs(_SeenWithError(), ids_T, error_LTD)
            total += float(jnp.sum(jnp.exp(clean_TV) * (clean_TV - found_TV)))
        return total

    assert size_D[-1] > 4 * size_D[0]
    assert moved(axes_DD[:, -1]) > 2 * moved(axes_DD[:, 0]) > 0


def test_it_is_a_metric(metric_LDD):
    assert metric_LDD.shape == (2, 48, 48)
    np.testing.assert_allclose(metric_LDD, metric_LDD.swapaxes(1, 2), rtol=1e-4, atol=1e-6 * metric_LDD.max())
    assert np.linalg.eigvalsh(metric_LDD.astype(np.float64)).min() > -1e-5 * metric_LDD.max()


def test_models_that_predict_no_tokens_have_one_too():
    model = tiny_vit.model()
    dims = FAMILIES[model.family].dims(model.config)
    views = np.stack([tiny_vit.image(seed) for seed in range(2)])
    metric_LDD = sensitivity(model, views, first=0)
    assert metric_LDD.shape == (dims.layers, dims.site_dim("kv"), dims.site_dim("kv"))
    assert np.trace(metric_LDD, axis1=1, axis2=2).min() > 0


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("sequence:pvq:groups=6:size=8:rank=4:rotate=fisher", True),
        ("sequence:pvq:groups=6:size=8:rank=4", False),
        ("sequence:vq:groups=6:size=8", False),
    ],
)
def test_it_is_found_where_it_is_used(spec, wanted, windows_WT):
    job = CalibrationJob(windows=4, window=TOKENS, rows=60)
    told = []
    samples = collect(tiny.model(), [parse_strategy(spec)], 1, windows_WT[:4], job, lambda *at: told.append(at))
    assert (METRIC in samples) == wanted
    total = 4 + 4 * wanted
    assert told == [(n + 1, total) for n in range(total)]


@pytest.fixture
def rows_nD():
    rng = np.random.default_rng(5)
    return (rng.normal(size=(400, 24)) @ rng.normal(size=(24, 24))).astype(np.float32)


def test_a_trusted_metric_is_how_errors_are_counted(rows_nD):
    rng = np.random.default_rng(6)
    root_DD = rng.normal(size=(24, 24))
    metric_DD = (root_DD @ root_DD.T).astype(np.float32)
    analysis_DD, synthesis_DD = balanced(rows_nD, 4, by_fisher(rows_nD, metric_DD, trust=1.0))
    np.testing.assert_allclose(analysis_DD @ synthesis_DD, np.eye(24), atol=1e-3)
    counted_DD = analysis_DD @ analysis_DD.T  # an error e costs |e analysis|²
    np.testing.assert_allclose(counted_DD / np.trace(counted_DD), metric_DD / np.trace(metric_DD), atol=1e-4)


def test_a_metric_that_is_not_trusted_changes_nothing(rows_nD):
    metric_DD = np.diag(np.arange(1.0, 25)).astype(np.float32)
    analysis_DD, _ = balanced(rows_nD, 4, by_fisher(rows_nD, metric_DD, trust=0.0))
    plain_DD, _ = balanced(rows_nD, 4, by_half(rows_nD))
    counted_DD, wanted_DD = analysis_DD @ analysis_DD.T, plain_DD @ plain_DD.T
    np.testing.assert_allclose(counted_DD / np.trace(counted_DD), wanted_DD / np.trace(wanted_DD), atol=1e-5)


def test_directions_that_nobody_feels_do_not_break_it(rows_nD):
    metric_DD = np.zeros((24, 24), np.float32)
    metric_DD[0, 0] = 1.0
    for trust in (0.9, 1.0):
        analysis_DD, synthesis_DD = balanced(rows_nD, 4, by_fisher(rows_nD, metric_DD, trust=trust))
        assert np.isfinite(analysis_DD).all()
        assert np.isfinite(synthesis_DD).all()
