"""The quantisers beside vq: what each one keeps of a row, and that more bits keep more."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import FSQ, LowRank, ResidualVQ, SegmentMeans, Sign, TopK
from thinwire.codecs.packing import digit_bytes, pack_digits, unpack_digits
from thinwire.codecs.vq import lookup
from thinwire.training.quantisers import best_steps, learn

N, D = 600, 16
seeds = st.integers(0, 2**31)


def rows(seed=0, n=N):
    """Rows about a mean far from zero, a few strong directions, some heavy tails."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(np.random.default_rng(5).standard_normal((D, D)))[0] * np.geomspace(4, 0.1, D)[:, None]
    return (rng.standard_t(5, (n, D)) @ mix + np.arange(D)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def there_and_back(codec, params, x_TD):
    return codec.decode(params, codec.encode(params, x_TD), *x_TD.shape)


def seen(codec, x_TD, params=None):
    return np.asarray(there_and_back(codec, params or {}, x_TD))


@functools.cache
def learnt(codec):
    return learn(jax.random.key(0), codec, rows())


def left(codec):
    """The part of the variance of new rows that a learnt codec loses."""
    fresh = rows(1)
    return ((seen(codec, fresh, learnt(codec)) - fresh) ** 2).sum() / ((fresh - fresh.mean(0)) ** 2).sum()


@pytest.mark.parametrize(
    ("codecs", "best"),
    [
        ([ResidualVQ(4, 8, stages) for stages in (1, 2, 4)], 0.06),
        ([LowRank(dims, 8) for dims in (1, 4, 16)], 0.02),
        ([LowRank(16, bits) for bits in (4, 8)], 0.02),
        ([FSQ(16, levels) for levels in (2, 3, 5, 16)], 0.05),
        ([FSQ(dims, 16) for dims in (1, 4, 16)], 0.05),
        ([Sign(block) for block in (16, 4, 1)], 1e-6),
        ([TopK(keep) for keep in (2, 8, 16)], 1e-6),
        ([TopK(16, bits) for bits in (8, 16)], 1e-6),
        ([SegmentMeans(length) for length in (600, 8, 1)], 1e-6),
    ],
)
def test_more_bits_lose_less(codecs, best):
    bits = [codec.bits_per_token(D) for codec in codecs]
    losses = [left(codec) for codec in codecs]
    assert bits == sorted(bits)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < best


@pytest.mark.parametrize(("base", "count"), [(2, 33), (3, 1), (3, 33), (7, 10), (10, 11), (256, 5)])
def test_digits_come_back(base, count):
    digits = np.random.default_rng(base).integers(0, base, count)
    packed = pack_digits(jnp.asarray(digits, jnp.int32), base)
    assert packed.shape == (digit_bytes(count, base),)
    assert unpack_digits(packed, base, count).tolist() == digits.tolist()


def test_five_ternary_digits_share_a_byte():
    assert [digit_bytes(n, 3) for n in (1, 10, 11, 1000)] == [1, 2, 3, 200]
    assert digit_bytes(10, 4) == 3


def test_residual_vq_adds_up_its_stages():
    codec = ResidualVQ(4, 8, 3)
    params = learnt(codec)
    x_TD, total = rows(2), np.zeros((N, D), np.float32)
    for book in params["codebook"]:
        distance = (((x_TD - total).reshape(N, 4, 1, -1) - book[None]) ** 2).sum(-1)
        total = total + np.asarray(lookup(jnp.asarray(book), jnp.asarray(distance.argmin(-1))))
    np.testing.assert_allclose(seen(codec, x_TD, params), total, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(keep=st.sampled_from([1, 3, D]), scale=st.sampled_from([1e-2, 1.0, 500.0]), seed=seeds)
def test_top_k_keeps_the_largest_in_float16(keep, scale, seed):
    x_TD = (np.random.default_rng(seed).standard_normal((5, D)) * scale).astype(np.float32)
    back = seen(TopK(keep), x_TD)
    largest = np.abs(x_TD) >= np.sort(np.abs(x_TD), axis=1)[:, -keep][:, None]
    np.testing.assert_array_equal(back, np.where(largest, x_TD.astype(np.float16).astype(np.float32), 0))
    eight = seen(TopK(keep, 8), x_TD)
    step = np.abs(x_TD).max(axis=1, keepdims=True) / 127
    assert (np.abs(eight - np.where(largest, x_TD, 0)) <= 0.6 * step).all()


@pytest.mark.parametrize("levels", [2, 3, 4, 7])
def test_steps_are_the_best_there_are(levels):
    """Against every one of many steps, for a normal and for a heavy-tailed coordinate."""
    rng = np.random.default_rng(0)
    x_nD = np.stack([rng.standard_normal(4000), 30 * rng.standard_t(3, 4000)], axis=1).astype(np.float32)
    x_nD -= x_nD.mean(axis=0)
    found = best_steps(jnp.asarray(x_nD), levels)

    def error(step_D):
        codes_nD = np.clip(np.round(x_nD / step_D + (levels - 1) / 2), 0, levels - 1)
        return ((x_nD - (codes_nD - (levels - 1) / 2) * step_D) ** 2).mean(axis=0)

    tried = np.stack([error(factor * x_nD.std(axis=0)) for factor in np.geomspace(0.05, 4, 300)])
    assert (error(np.asarray(found)) < 1.01 * tried.min(axis=0)).all()


@pytest.mark.parametrize(
    ("codec", "shift"), [(FSQ(4, 5), 128), (LowRank(4), 128), (Sign(8), 128), (ResidualVQ(4, 8, 2), 0)]
)
def test_what_is_learnt_follows_scale_and_shift(codec, shift):
    """Rows in other units, about another mean: the same codes, and rows decoded in those units."""
    plain, moved = learnt(codec), learn(jax.random.key(0), codec, 64 * rows() + shift)
    x_TD = rows(3, 50)
    apart = np.abs(seen(codec, 64 * x_TD + shift, moved) - (64 * seen(codec, x_TD, plain) + shift)).max(axis=1)
    assert (apart < 0.05).mean() > 0.9  # but for values on the edge between two codes


def test_signs_keep_the_mean_magnitude_of_each_block():
    x_TD = rows()
    back = seen(Sign(10, centre=0), x_TD)
    np.testing.assert_array_equal(np.sign(back), np.where(x_TD >= 0, 1, -1))
    for block in (slice(0, 10), slice(10, D)):
        size = np.abs(x_TD[:, block]).mean(axis=1, keepdims=True)
        np.testing.assert_allclose(np.abs(back[:, block]), np.broadcast_to(size, back[:, block].shape), rtol=1e-3)


@pytest.mark.parametrize("bits", [16, 8])
def test_segments_are_means_of_their_own_valid_rows(bits):
    codec, x_TD = SegmentMeans(4, bits), rows(4, 11)
    valid = np.arange(11) < 9
    x_TD[~valid] = np.nan  # whatever padding holds
    payload = codec.encode({}, jnp.asarray(x_TD), {"valid": jnp.asarray(valid)})
    back = np.asarray(codec.decode({}, payload, 11, D))
    for start, stop in ((0, 4), (4, 8), (8, 9)):
        expected = np.broadcast_to(x_TD[start:stop].mean(axis=0), (stop - start, D))
        np.testing.assert_allclose(back[start:stop], expected, atol=0.05)
    assert np.isfinite(back).all()


@pytest.mark.parametrize("codec", [TopK(3), TopK(3, 8), Sign(4, 0), SegmentMeans(2)])
def test_zeros_and_huge_values_stay_finite(codec):
    x_TD = np.array([[0.0] * D, [1e30, -1e30] * (D // 2)], np.float32)
    assert np.isfinite(seen(codec, x_TD)).all()
    assert not seen(codec, np.zeros((2, D), np.float32)).any()
