"""K-means: near the best distortion, deterministic, and a revived codeword does not snap back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codebooks import kmeans
from thinwire.codecs.vq import lookup, search
from thinwire.errors import ThinwireError


def blobs(centres, each=20, seed=0):
    """Rows close around each centre, (n, D)."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.asarray(centres, np.float32), each, axis=0)
    return rows + rng.normal(scale=0.01, size=rows.shape).astype(np.float32)


def distortion(codebook, x_nD):
    return float(jnp.mean((lookup(codebook, search(codebook, jnp.asarray(x_nD))) - x_nD) ** 2))


def full_lloyd(x_nE, size, steps=50, seed=0):
    """Plain Lloyd from random rows for one group, in NumPy; returns its distortion."""
    rng = np.random.default_rng(seed)
    codebook = x_nE[rng.choice(len(x_nE), size, replace=False)]
    for _ in range(steps):
        near = ((x_nE[:, None] - codebook[None]) ** 2).sum(-1).argmin(1)
        codebook = np.stack([x_nE[near == c].mean(0) if (near == c).any() else codebook[c] for c in range(size)])
    return ((x_nE[:, None] - codebook[None]) ** 2).sum(-1).min(1).mean() / x_nE.shape[1]


def test_finds_separate_blobs_in_every_group(key):
    left = [[0.0, 0], [9, 0], [0, 9], [9, 9], [30, 30], [-20, 5]]
    x_nD = np.concatenate([blobs(left), blobs(left[::-1], seed=1)], axis=1)
    codebook = kmeans.fit(key, x_nD, groups=2, size=6, steps=5)
    for group in codebook:
        assert np.allclose(sorted(np.round(group, 1).tolist()), sorted(left), atol=0.05)


@pytest.mark.parametrize("size", [8, 100])
def test_no_worse_than_full_lloyd(size, key):
    x_nD = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    codebook = kmeans.fit(key, x_nD, groups=1, size=size)
    assert distortion(codebook, x_nD) < 1.05 * full_lloyd(x_nD, size)


def test_many_batches_do_nearly_as_well_as_one(key, monkeypatch):
    x_nD = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    whole = distortion(kmeans.fit(key, x_nD, 2, 8), x_nD)
    monkeypatch.setattr(kmeans, "_BATCH_ROWS", 300)  # four batches of 250
    assert distortion(kmeans.fit(key, x_nD, 2, 8), x_nD) < 1.05 * whole


def test_same_key_same_codebook(key):
    x_nD = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    once, again = (kmeans.fit(key, x_nD, 2, 8, steps=2) for _ in range(2))
    assert (once == again).all()
    assert (kmeans.fit(jax.random.key(9), x_nD, 2, 8, steps=2) != once).any()


def test_seeding_reaches_far_blobs(key):
    """Ten rows far away among a thousand: uniform seeding would miss them nine times in ten."""
    x_nD = np.concatenate([blobs([[0.0, 0]], 1000), blobs([[50.0, 50]], 10)])
    picked = kmeans.seed(key, jnp.asarray(x_nD)[:, None], 2, jnp.ones(1010))
    assert sorted(np.round(np.asarray(picked)[0, :, 0], 0).tolist()) == [0, 50]


def test_rows_without_weight_are_never_picked(key):
    x_nGE = jnp.arange(50, dtype=jnp.float32).reshape(50, 1, 1)
    picked = kmeans.seed(key, x_nGE, 20, jnp.where(jnp.arange(50) < 25, 1.0, 0.0))
    assert float(picked.max()) < 25
    assert len(set(np.asarray(picked).ravel().tolist())) == 20


def test_dead_codeword_is_revived_and_stays(key):
    """The far codeword serves no row, but the running sum of its past is large."""
    x_nGE = jnp.asarray(blobs([[0.0, 0], [10, 0]], each=64))[:, None]
    codebook = jnp.asarray([[[0.0, 0], [500.0, 500]]])
    state = kmeans.KMeansState(codebook, sums=codebook, counts=jnp.asarray([[64.0, 1.0]]))
    revived, _ = kmeans.step(key, state, x_nGE, jnp.ones(128), jnp.float32(0.5))
    place = revived.codebook[0, 1]
    assert jnp.allclose(place, jnp.asarray([10.0, 0]), atol=0.1)
    # Few rows near it in the next batch: its old sums, had they been kept, would drag it far away.
    few = jnp.concatenate([x_nGE[:64], x_nGE[64:66]])
    after, _ = kmeans.step(key, revived, few, jnp.ones(66), jnp.float32(0.99))
    assert jnp.allclose(after.codebook[0, 1], jnp.asarray([10.0, 0]), atol=0.1)
    # And where no row comes near, it stays exactly.
    alone, _ = kmeans.step(key, revived, x_nGE[:64], jnp.ones(64), jnp.float32(0.99))
    assert jnp.allclose(alone.codebook[0, 1], place, atol=1e-5)


def test_all_dead_codewords_find_different_rows(key):
    x_nGE = jnp.asarray(np.random.default_rng(0).normal(size=(300, 1, 3)), jnp.float32)
    codebook = jnp.concatenate([jnp.zeros((1, 1, 3)), jnp.full((1, 19, 3), 1e3)], axis=1)
    state, error = kmeans.step(key, kmeans.start(codebook), x_nGE, jnp.ones(300), jnp.float32(0))
    assert len({tuple(row) for row in np.asarray(state.codebook[0]).tolist()}) == 20
    _, after = kmeans.step(key, state, x_nGE, jnp.ones(300), jnp.float32(0))
    assert after < 0.5 * error


def test_step_without_decay_is_a_lloyd_iteration(key):
    x_nGE = jnp.asarray(np.random.default_rng(0).normal(size=(300, 1, 2)), jnp.float32)
    codebook = x_nGE[:4].transpose(1, 0, 2)
    state, error = kmeans.step(key, kmeans.start(codebook), x_nGE, jnp.ones(300), jnp.float32(0))
    near = ((x_nGE - codebook) ** 2).sum(-1).argmin(1)
    means = jnp.stack([x_nGE[near == c, 0].mean(0) for c in range(4)])
    assert jnp.allclose(state.codebook[0], means, atol=1e-5)
    assert state.counts.sum() == 300
    assert jnp.allclose(error, distortion(codebook, x_nGE[:, 0]), atol=1e-6)


def test_weights_count_rows(key):
    x_nD = np.asarray([[0.0], [1.0], [100.0], [101.0]], np.float32)
    codebook = kmeans.fit(key, x_nD, 1, 2, weights=np.asarray([3, 1, 1, 3], np.float32))
    assert np.allclose(sorted(np.asarray(codebook).ravel()), [0.25, 100.75], atol=1e-4)


def test_fewer_distinct_rows_than_codewords(key):
    codebook = kmeans.fit(key, np.ones((10, 2), np.float32), 1, 4)
    assert (codebook == 1).all()


@pytest.mark.parametrize(
    ("rows", "groups", "says"),
    [
        (np.zeros((100, 8), np.float32), 2, "100 rows are too few to learn 1024 codewords"),
        (np.full((2000, 8), np.nan, np.float32), 2, "NaN or infinity"),
        (np.zeros((2000, 8), np.float32), 3, "8 values cannot be cut into 3 equal groups"),
    ],
)
def test_wrong_input(rows, groups, says, key):
    with pytest.raises(ThinwireError, match=says):
        kmeans.fit(key, rows, groups, 1024)
