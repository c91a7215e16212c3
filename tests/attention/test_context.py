"""Exact and remote attention, tile by tile, against a dense masked softmax in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.attention import context
from thinwire.attention.context import (
    Queries,
    RemoteAttention,
    exact_attention,
    join_parts,
    last_attention,
    tiles,
)
from thinwire.layout import LAYOUTS, contiguous

H, K, d = 4, 2, 3
SCALE = 0.7


def dense(q_THd, k_SKd, v_SKd, visible_TS):
    q, k, v = (np.asarray(x, np.float64) for x in (q_THd, k_SKd, v_SKd))
    k, v = np.repeat(k, H // K, axis=1), np.repeat(v, H // K, axis=1)
    score = SCALE * np.einsum("thd,shd->hts", q, k)
    weight = np.where(visible_TS, np.exp(score - np.where(visible_TS, score, -np.inf).max(-1, keepdims=True)), 0)
    return np.einsum("hts,shd->thd", weight / weight.sum(-1, keepdims=True), v)


def random_qkv(tokens, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda heads: 2 * rng.standard_normal((tokens, heads, d), np.float32)
    return draw(H), draw(K), draw(K)


def test_tiles_cut_within_segments(monkeypatch):
    monkeypatch.setattr(context, "TILE", 3)
    layout = LAYOUTS["zigzag"](14, 2)  # two stretches of 3 or 4 a device
    assert layout.segment_rows == ((0, 4), (4, 7)) or layout.segment_rows == ((0, 4), (4, 8))
    for start, stop in tiles(layout):
        assert 0 < stop - start <= 4  # equal parts of about three
        assert any(a <= start and stop <= b for a, b in layout.segment_rows)
    assert [row for bounds in tiles(layout) for row in range(*bounds)] == list(range(layout.rows))


def queries(layout):
    """The own rows without a halo."""
    return Queries(tiles(layout), layout.positions_NR, np.zeros((layout.devices, 0, 2), np.int32))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("tile", [1, 4, 5, 100])
def test_exact_attention_in_tiles(monkeypatch, tile, causal):
    monkeypatch.setattr(context, "TILE", tile)
    layout = contiguous(10, 1)
    q, k, v = random_qkv(10)

    def run(q, k, v, position):
        return join_parts(exact_attention(q, k, v, position, tiles(layout), SCALE, causal), H, d)

    out = jax.jit(run)(q, k, v, np.arange(10))
    visible = np.tril(np.ones((10, 10), bool)) if causal else np.ones((10, 10), bool)
    np.testing.assert_allclose(out, dense(q, k, v, visible), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "devices", "split", "shared", "tile", "causal"),
    [
        ("contiguous", 3, None, 0, 512, True),
        ("contiguous", 3, (1.0, 3.0, 2.0), 0, 512, False),
        ("contiguous", 3, (1.0, 3.0, 2.0), 1, 5, True),
        ("zigzag", 2, None, 1, 512, True),
        ("zigzag", 2, (2.0, 1.0), 0, 4, False),
    ],
)
def test_own_shared_and_remote_parts_are_the_whole(monkeypatch, name, devices, split, shared, tile, causal):
    """Every device's own queries see all visible keys: own, shared, and everybody else's."""
    monkeypatch.setattr(context, "TILE", tile)
    tokens = 17
    layout = LAYOUTS[name](tokens, devices, split, shared)
    q, k, v = random_qkv(tokens)
    rows = np.minimum(layout.positions_NR, tokens - 1)
    q_NR, k_NR, v_NR = q[rows], k[rows], v[rows]

    def one(me):
        own = jnp.asarray(layout.positions_NR)[me]
        take = lambda x: jnp.asarray(x)[me]
        remote = RemoteAttention(layout, queries(layout), take(q_NR), own, me, SCALE, causal)
        parts = exact_attention(take(q_NR), take(k_NR), take(v_NR), own, remote.key_tiles, SCALE, causal)
        parts = remote.with_shared(parts, jnp.asarray(k[:shared]), jnp.asarray(v[:shared]))

        def with_device(parts, other):
            rows = lambda: (jnp.asarray(k_NR)[other], jnp.asarray(v_NR)[other])
            return remote.add(parts, other, rows), None

        parts, _ = jax.lax.scan(with_device, parts, jnp.arange(devices)[::-1])
        return join_parts(parts, H, d)

    visible = np.tril(np.ones((tokens, tokens), bool)) if causal else np.ones((tokens, tokens), bool)
    expected = dense(q, k, v, visible)
    for n in range(devices):
        out = np.asarray(one(n))
        assert np.isfinite(out).all()  # padded rows too
        np.testing.assert_allclose(
            out[layout.valid_NR[n]], expected[layout.positions_NR[n][layout.valid_NR[n]]], atol=1e-5
        )


def test_pairs_of_tiles_that_see_nothing_are_behind_a_condition(monkeypatch):
    """A zigzag device sees one of another's two stretches: the other must be skipped at run time, not masked."""
    layout = LAYOUTS["zigzag"](16, 2)
    q, k, v = (x[:8] for x in random_qkv(16))

    def run(me, other):
        own = jnp.asarray(layout.positions_NR)[me]
        remote = RemoteAttention(layout, queries(layout), jnp.asarray(q), own, me, SCALE, True)
        parts = exact_attention(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), own, remote.key_tiles, SCALE, True)
        return join_parts(remote.add(parts, other, lambda: (jnp.asarray(k), jnp.asarray(v))), H, d)

    text = str(jax.make_jaxpr(run)(0, 1))
    assert text.count("cond[") == 1 + 2 * 2  # this device at all, then each pair of stretches


@pytest.mark.parametrize("tile", [1, 3, 4, 100])
@pytest.mark.parametrize("last", [0, 1, 7, 10])
def test_attention_of_the_last_tokens(monkeypatch, tile, last):
    monkeypatch.setattr(context, "CAUSAL_TILE", tile)
    q, k, v = random_qkv(10)
    out = jax.jit(lambda q, k, v: last_attention(q, k, v, SCALE))(q[10 - last :], k, v)
    np.testing.assert_allclose(out, dense(q, k, v, np.tril(np.ones((10, 10), bool)))[10 - last :], atol=1e-5)
