"""Predictive codecs with smaller products: through a bottleneck, and along the principal axes of a residual only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codecs import CODECS
from thinwire.errors import ThinwireError
from thinwire.training.predictive import learn_layers
from thinwire.training.rotation import by_fisher, by_half, rotation_of

D, R, N = 12, 8, 3000
QUANTISER = {"groups": 2, "size": 16}


def rows(rank, noisy_axes=D):
    """Tokens' features, layer 0, and a layer that follows from both through ``rank`` numbers, but for noise."""
    rng = np.random.default_rng(7)
    tokens, first = rng.standard_normal((N, R)), rng.standard_normal((N, D))
    through = np.concatenate([tokens, first], axis=1) @ rng.standard_normal((R + D, rank))
    directions = np.linalg.qr(rng.standard_normal((D, D)))[0][:, :noisy_axes]
    noise = 0.5 * rng.standard_normal((N, noisy_axes)) @ directions.T
    above = through @ rng.standard_normal((rank, D)) / rank**0.5 + noise
    return [x.astype(np.float32) for x in (tokens, np.stack([first, above]))]


def left(tokens, rows_LnD, metric_LDD=None, **options):
    """The part of the noise that is not decoded, of rows that nothing was learnt from."""
    kept = np.arange(N) % 10 != 9
    codec = CODECS["pvq"](rank=R, **QUANTISER, **options)
    learnt = list(learn_layers(jax.random.key(0), codec, tokens, rows_LnD, kept, metric_LDD=metric_LDD))
    shapes = {name: x.shape[1:] for name, x in codec.init_params(jax.random.key(0), 1, D).items()}
    assert all({name: x.shape for name, x in params.items()} == shapes for params, _ in learnt)
    params, known = jax.tree.map(jnp.asarray, (learnt[1][0], {"features": tokens, "below": rows_LnD[0]}))
    seen_nD = codec.decode(params, codec.encode(params, jnp.asarray(rows_LnD[1]), known), N, D, known)
    return float(((np.asarray(seen_nD) - rows_LnD[1])[~kept] ** 2).mean())


def test_a_bottleneck_as_wide_as_the_prediction_costs_nothing():
    given = rows(rank=3)
    whole = left(*given)
    assert left(*given, bottleneck=3) == pytest.approx(whole, rel=0.03)
    assert left(*given, bottleneck=2) > 1.5 * whole
    assert left(*given, bottleneck=D + 5) == pytest.approx(whole, rel=0.03)


def test_axes_without_anything_to_code_are_left_out_for_nothing():
    given = rows(rank=3, noisy_axes=4)
    whole = left(*given)
    assert left(*given, axes=4) == pytest.approx(whole, rel=0.25)  # other groups, so other codewords
    assert left(*given, axes=2) > 1.5 * whole


@pytest.mark.parametrize("rotate", ["joint", "fisher"])
def test_axes_and_their_way_back_belong_together(rotate):
    rng = np.random.default_rng(1)
    rows_nD = (rng.normal(size=(400, D)) @ rng.normal(size=(D, D))).astype(np.float32)
    root_DD = rng.normal(size=(D, D))
    metric_DD = (root_DD @ root_DD.T).astype(np.float32)
    analysis_DA, synthesis_AD = rotation_of(rotate, rows_nD, 3, metric_DD, axes=6)
    assert analysis_DA.shape == (D, 6)
    np.testing.assert_allclose(synthesis_AD @ analysis_DA, np.eye(6), atol=1e-3)
    # No other six directions hold more of the rows, by the metric.
    metric = by_fisher(rows_nD, metric_DD) if rotate == "fisher" else by_half(rows_nD)
    scaled_nD = rows_nD @ metric.root_DD
    most = np.sort(np.linalg.eigvalsh(scaled_nD.T @ scaled_nD))[-6:].sum()
    assert ((rows_nD @ analysis_DA) ** 2).sum() == pytest.approx(most, rel=1e-3)


def test_the_bottleneck_keeps_what_the_metric_feels():
    """Both halves follow from a number of their own, the second more closely; the first is felt more."""
    rng = np.random.default_rng(3)
    tokens, first = rng.standard_normal((N, R)), rng.standard_normal((N, D))
    signal_n2, noise_nD = np.stack([tokens[:, 0], 3 * tokens[:, 1]], axis=1), rng.standard_normal((N, D))
    tokens, rows_LnD = tokens.astype(np.float32), np.stack([first, noise_nD + np.repeat(signal_n2, D // 2, axis=1)])
    rows_LnD, felt = rows_LnD.astype(np.float32), np.repeat([1e4, 1.0], D // 2)
    metric_LDD = np.stack([np.diag(felt), np.diag(felt)]).astype(np.float32)
    kept = np.ones(N, bool)
    error = {}
    for rotate in ("joint", "fisher"):
        codec = CODECS["pvq"](rank=R, bottleneck=1, rotate=rotate, **QUANTISER)
        *_, (params, _) = learn_layers(jax.random.key(0), codec, tokens, rows_LnD, kept, metric_LDD=metric_LDD)
        known = {"features": jnp.asarray(tokens), "below": jnp.asarray(rows_LnD[0])}
        wrong_nD = np.asarray(codec.predict(jax.tree.map(jnp.asarray, params), known)) - rows_LnD[1]
        error[rotate] = (wrong_nD**2 * felt).mean()
    assert error["fisher"] < 0.6 * error["joint"]


def test_work_is_that_of_the_smaller_products():
    codec, whole = CODECS["pvq"](rank=256, bottleneck=96, axes=192), CODECS["pvq"](rank=256)
    assert codec.encode_flops(384) - codec.quantiser.encode_flops(192) == 2 * (96 * (256 + 384 + 384) + 384 * 192)
    assert codec.decode_flops(384) < 0.5 * whole.decode_flops(384)
    assert codec.bits_per_token(384) == whole.bits_per_token(384)


def test_rows_of_fewer_values_have_fewer_axes():
    codec = CODECS["pvq"](**QUANTISER, axes=24)
    codec.check(D)
    assert codec.width(D) == D
    assert codec.width(96) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck": -1}, "bottleneck=-1 is below 0"),
        ({"axes": -4}, "axes=-4 is below 0"),
        ({"axes": 6, "groups": 4}, "6 values cannot be cut into 4"),
        ({"axes": 6, "rotate": "apart"}, "axes=6 of rotate=apart: use joint or fisher"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ThinwireError, match=message):
        CODECS["pvq"](**{**QUANTISER, **options}).check(D)
