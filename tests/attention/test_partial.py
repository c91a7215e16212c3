import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.attention import partial
from thinwire.attention.partial import finish, merge, nothing, partial_attention

T, H, K, d, S = 4, 6, 2, 3, 10


def dense(q, k, v, visible, scale):
    """Whole softmax attention, float64, loops in place of grouping; zero for a query that sees nothing."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((q.shape[0], q.shape[1], v.shape[-1]))
    for h in range(q.shape[1]):
        key_head = h // (q.shape[1] // k.shape[1])
        for t in range(q.shape[0]):
            seen = np.flatnonzero(visible[t])
            if seen.size:
                score = scale * k[seen, key_head] @ q[t, h]
                weight = np.exp(score - score.max())
                out[t, h] = weight / weight.sum() @ v[seen, key_head]
    return out


def inputs(seed, size=1.0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)
    return size * draw(T, H, d), draw(S, K, d), draw(S, K, d), rng


attend = jax.jit(partial_attention, static_argnames="scale")


def merged(q, k, v, visible, owner, scale):
    """Parts of any keys of all; what is not in a part is masked there, so that one shape serves all."""
    part = nothing(T, H, d)
    for n in range(3):
        part = merge(part, attend(q, k, v, visible & (owner == n)[None], scale))
    return part


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 999),
    st.lists(st.integers(0, 2), min_size=S, max_size=S),
    st.floats(0, 1),
    st.sampled_from([1.0, 1e4]),
)
def test_any_partition_of_the_keys_merges_to_the_whole(seed, owner, density, size):
    """Parts without a key, queries without a key and scores up to ±1e4 among them."""
    q, k, v, rng = inputs(seed, size)
    visible = rng.random((T, S)) < density
    part = merged(q, k, v, visible, np.array(owner), 0.5)
    out = np.asarray(finish(part))
    assert np.isfinite(out).all()
    # Large scores carry float32's rounding into the exponent.
    tolerance = 1e-5 if size == 1 else 0.03
    np.testing.assert_allclose(out, dense(q, k, v, visible, 0.5), atol=tolerance)
    whole = np.asarray(finish(attend(q, k, v, visible, 0.5)))
    np.testing.assert_allclose(out, whole, atol=1e-5)


def test_order_of_merging_does_not_matter():
    q, k, v, _ = inputs(0)
    a, b, c = (attend(q, k[s], v[s], None, 0.5) for s in (slice(0, 2), slice(2, 7), slice(7, 10)))
    one, other = finish(merge(merge(a, b), c)), finish(merge(a, merge(c, b)))
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(one, dense(q, k, v, np.ones((T, S), bool), 0.5), atol=1e-6)


def test_nothing_is_neutral():
    q, k, v, _ = inputs(1)
    part = attend(q, k, v, None, 0.5)
    for same in (merge(part, nothing(T, H, d)), merge(nothing(T, H, d), part)):
        jax.tree.map(np.testing.assert_array_equal, same, part)
    assert (np.asarray(finish(merge(nothing(T, H, d), nothing(T, H, d)))) == 0).all()


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_gradients_are_finite_and_masked_keys_get_none(size):
    q, k, v, rng = inputs(2, size)
    visible = rng.random((T, S)) < 0.5
    visible[0] = False  # a query that sees nothing
    visible[:, 3] = False  # a key that nobody sees
    owner = np.arange(S) % 2

    def loss(q, k, v):
        parts = [partial_attention(q, k, v, jnp.asarray(visible & (owner == n)[None]), 0.5) for n in (0, 1)]
        return (finish(merge(*parts)) ** 2).sum()

    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads)
    assert (np.asarray(grads[0])[0] == 0).all()
    assert (np.asarray(grads[1])[3] == 0).all()
    assert (np.asarray(grads[2])[3] == 0).all()
    assert np.abs(grads[2]).max() > 0


def test_short_floats_accumulate_in_float32():
    q, k, v, _ = inputs(3)
    short = [jnp.asarray(x).astype(jnp.bfloat16) for x in (q, k, v)]
    part = partial_attention(*short, None, 0.5)
    assert part.out_THd.dtype == part.top_TH.dtype == part.sum_TH.dtype == jnp.float32
    np.testing.assert_allclose(finish(part), dense(q, k, v, np.ones((T, S), bool), 0.5), atol=0.03)


@pytest.mark.parametrize("scores", [1, S, 3 * S, 1 << 18])
@pytest.mark.parametrize("masked", [False, True])
def test_scores_in_tiles_of_any_size_give_the_same(monkeypatch, scores, masked):
    """One row at a time, tiles that do not divide the rows, all at once."""
    q, k, v, rng = inputs(3)
    visible = rng.random((T, S)) < 0.5
    visible[1] = False
    monkeypatch.setattr(partial, "_CPU_SCORES", scores)
    found = jax.jit(lambda *qkv: partial_attention(*qkv, jnp.asarray(visible) if masked else None, 0.5))(q, k, v)
    everything = np.ones_like(visible)
    np.testing.assert_allclose(finish(found), dense(q, k, v, visible if masked else everything, 0.5), atol=1e-5)
    assert found.top_TH.shape == found.sum_TH.shape == (T, H)
