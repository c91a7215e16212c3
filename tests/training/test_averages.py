"""EMA codebooks and the distribution of the residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codecs import GroupedVQ, ResidualVQ
from thinwire.codecs.vq import lookup, search
from thinwire.strategies import parse_codec
from thinwire.training import averages
from thinwire.training.coded import there_and_back


def rows(layers=2, n=400, dim=8, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((layers, n, dim)), jnp.float32)


def start(codec, layers=2, dim=8, rows=400, decay=0.9):
    arrays = {"kv": codec.init_params(jax.random.key(0), layers, dim)}
    return averages.in_training(codec, arrays), averages.start_counts(codec, arrays, rows, decay)


def error(arrays, rows_LnQ, codec=GroupedVQ(2, 16)):  # noqa: B008 - frozen
    seen = jax.vmap(lambda book, x: codec.decode({"codebook": book}, codec.encode({"codebook": book}, x), *x.shape))
    return float(jnp.mean((seen(arrays["kv"]["codebook"], rows_LnQ) - rows_LnQ) ** 2))


def test_codebooks_follow_the_rows_and_settle_where_k_means_does():
    arrays, moving = start(GroupedVQ(2, 16))
    before = error(arrays, rows(seed=99))
    for step in range(40):
        some = rows(seed=step)
        arrays, moving = averages.move_codebooks(
            jax.random.key(step), arrays, moving, some, jnp.ones(some.shape[:2]), 0.9
        )
    after = error(arrays, rows(seed=99))
    assert after < 0.8 * before
    from thinwire.codebooks.kmeans import fit

    many = np.concatenate([np.asarray(rows(seed=step))[0] for step in range(40)])
    best = {"kv": {"codebook": fit(jax.random.key(0), many, 2, 16)[None]}}
    assert after < 1.1 * error(best, rows(seed=99)[:1])


def test_first_step_hardly_moves_codebooks_that_are_in_even_use():
    codec = GroupedVQ(2, 4)
    arrays, moving = start(codec, rows=4000, decay=0.99)
    some = rows(n=4000)
    moved, _ = averages.move_codebooks(jax.random.key(0), arrays, moving, some, jnp.ones(some.shape[:2]), 0.99)
    step = jnp.abs(moved["kv"]["codebook"] - arrays["kv"]["codebook"]).max()
    assert 0 < float(step) < 0.1


def test_layers_without_rows_and_rows_without_weight_are_left_out():
    codec = GroupedVQ(2, 16)
    arrays, moving = start(codec)
    valid = jnp.ones((2, 400)).at[0].set(0.0)
    moved, counts = averages.move_codebooks(jax.random.key(0), arrays, moving, rows(), valid, 0.9)
    np.testing.assert_array_equal(moved["kv"]["codebook"][0], arrays["kv"]["codebook"][0])
    np.testing.assert_array_equal(counts["kv"]["counts"][0], moving["kv"]["counts"][0])
    assert float(jnp.abs(moved["kv"]["codebook"][1] - arrays["kv"]["codebook"][1]).max()) > 0
    half = jnp.ones((2, 400)).at[:, 200:].set(0.0)
    wild = rows().at[:, 200:].set(1e3)
    tame, _ = averages.move_codebooks(jax.random.key(0), arrays, moving, wild, half, 0.9)
    assert float(jnp.abs(tame["kv"]["codebook"]).max()) < 10


def test_every_stage_follows_what_those_before_it_have_left():
    """The first as grouped VQ would, the others the rows that are left; all together code better."""
    codec, decay = ResidualVQ(2, 8, 3), 0.9
    arrays, moving = start(codec, decay=decay)
    some, ones = rows(), jnp.ones((2, 400))
    before = error(arrays, rows(seed=99), codec)
    _, counts = averages.move_codebooks(jax.random.key(3), arrays, moving, some, ones, decay)
    book_LSGCE = arrays["kv"]["codebook"]
    left = some
    for stage in range(3):
        near = jnp.stack([lookup(book, search(book, x)) for book, x in zip(book_LSGCE[:, stage], left, strict=True)])
        codes = jnp.stack([search(book, x) for book, x in zip(book_LSGCE[:, stage], left, strict=True)])
        used = jax.nn.one_hot(codes, 8).sum(axis=1)  # (L, G, C)
        np.testing.assert_allclose(
            counts["kv"]["counts"][:, stage], decay * moving["kv"]["counts"][:, stage] + used, rtol=1e-5
        )
        left = left - near.reshape(left.shape)
    for step in range(30):
        arrays, moving = averages.move_codebooks(jax.random.key(step), arrays, moving, rows(seed=step), ones, decay)
    assert error(arrays, rows(seed=99), codec) < 0.7 * before


def test_codecs_without_a_codebook_have_no_counts():
    for name in ("int4", "sign", "fsq:dims=8"):
        codec = parse_codec(name)
        assert averages.start_counts(codec, {"kv": codec.init_params(jax.random.key(0), 2, 8)}, 10, 0.9) == {}


@pytest.mark.parametrize(
    "name", ["fsq:dims=8", "lowrank:dims=4", "rvq:groups=2:size=4:stages=2", "sign", "topk:keep=2"]
)
def test_other_codecs_have_all_their_arrays_in_training(name):
    codec = parse_codec(name)
    arrays = {"kv": codec.init_params(jax.random.key(0), 1, 8)}
    inside = averages.in_training(codec, arrays)
    assert set(inside["kv"]) == set(arrays["kv"])
    own = jax.tree.map(lambda x: x[0], inside["kv"])
    rows_TD = jax.random.normal(jax.random.key(1), (3, 8))
    seen_TD, _ = there_and_back(codec, own, rows_TD, None)
    assert seen_TD.shape == rows_TD.shape


def test_wide_groups_get_their_search_space_back():
    codec = GroupedVQ(1, 1024)
    arrays = {"kv": codec.init_params(jax.random.key(0), 1, 600)}
    assert "projected" in arrays["kv"]
    inside = averages.in_training(codec, arrays)
    assert set(inside["kv"]) == {"codebook"}
    again = averages.after_training(codec, inside)
    np.testing.assert_allclose(jnp.abs(again["kv"]["projected"]), jnp.abs(arrays["kv"]["projected"]), atol=1e-3)


def test_residuals_are_followed_without_the_bias_of_their_start():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    draw = lambda step: np.random.default_rng(step).standard_normal((1, 2000, 3)) @ root.T + np.array([1.0, 2.0, 3.0])
    for full in (False, True):
        seen = averages.start_residuals(1, 3, full)
        mean, spread = averages.noise_root(seen)
        assert float(jnp.abs(mean).max()) == float(jnp.abs(spread).max()) == 0
        for step in range(30):
            seen = averages.move_residuals(seen, jnp.asarray(draw(step), jnp.float32), jnp.ones((1, 2000)), 0.9)
        mean, spread = averages.noise_root(seen)
        np.testing.assert_allclose(mean[0], [1, 2, 3], atol=0.1)
        covariance = spread[0] @ spread[0].T if full else jnp.diag(spread[0] ** 2)
        wanted = root @ root.T
        np.testing.assert_allclose(
            covariance, wanted if full else np.diag(np.diag(wanted)), atol=0.15 * np.abs(wanted).max()
        )


def test_noise_makes_quantised_gaussians_gaussian_again():
    """x̂ has covariance Σ − Σ_ρ; with noise of the residual it is Σ again [papers.md 1.5]."""
    x = rows(layers=1, n=20000, dim=4)
    codec = GroupedVQ(2, 4)
    from thinwire.codebooks.kmeans import fit

    params = {"codebook": fit(jax.random.key(0), x[0], 2, 4)}
    seen = codec.decode(params, codec.encode(params, x[0]), *x[0].shape)
    residuals = averages.move_residuals(
        averages.start_residuals(1, 4, False), (x[0] - seen)[None], jnp.ones((1, len(x[0]))), 0.0
    )
    mean, root = averages.noise_root(residuals)
    noisy = seen + mean + jax.random.normal(jax.random.key(1), seen.shape) * root
    assert float(jnp.var(seen)) < 0.85
    np.testing.assert_allclose(jnp.var(noisy, axis=0), jnp.var(x[0], axis=0), rtol=0.05)
