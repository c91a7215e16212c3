"""Mixed-precision attention: what crosses is codes and nothing else, and what each query sees.

The dense masked reference is written here on its own: one (T, T) softmax whose scores come from exact keys where query
and key are on one device, and from decoded keys elsewhere.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import one_attention
from one_attention import CODEBOOK, KV, H, K, Q, T, d, halos, keys_values, turn

CODEC = "vq:groups=4:size=8"


def program(spec, devices, split, causal):
    """The attention with ``CODEBOOK``: (q, kv) of the sequence -> outputs of the sequence; and the layout."""
    run, layout = one_attention.program(spec, devices, split, causal)
    return lambda q, kv: run(q, kv, {"codebook": jnp.asarray(CODEBOOK)}), layout


def nearest(kv):
    """What every receiver decodes, by brute force."""
    pieces = kv.reshape(T, 4, 1, -1)
    distance = ((pieces.astype(np.float64) - CODEBOOK[None]) ** 2).sum(-1)
    return np.stack([CODEBOOK[g][distance[:, g].argmin(-1)] for g in range(4)], axis=1).reshape(T, -1)


def reference(q, kv, layout, halos, causal=True):
    """S = where(M, S_fp, S_q); P = softmax(S); O = (P∘M)V + (P∘(1−M))V̂."""
    position = jnp.arange(T)
    (k, v), (k_seen, v_seen) = keys_values("kv", jnp.asarray(kv)), keys_values("kv", jnp.asarray(nearest(kv)))
    q, k, k_seen = (np.asarray(turn(x, position), np.float64) for x in (jnp.asarray(q), k, k_seen))
    owner = layout.places[0]
    exact = (owner[:, None] == owner[None]) | (np.arange(T) < layout.shared)[None]
    for n, ranges in enumerate(halos):
        for start, stop in ranges:
            exact[np.ix_(owner == n, np.arange(start, stop))] = True
    visible = np.tril(np.ones((T, T), bool)) if causal else np.ones((T, T), bool)
    out = np.zeros((T, H, d))
    for h in range(H):
        g = h // (H // K)
        score = np.where(exact, q[:, h] @ k[:, g].T, q[:, h] @ k_seen[:, g].T) * d**-0.5
        weight = np.where(visible, np.exp(score - np.where(visible, score, -np.inf).max(1, keepdims=True)), 0)
        weight /= weight.sum(1, keepdims=True)
        out[:, h] = (weight * exact) @ np.asarray(v[:, g]) + (weight * ~exact) @ np.asarray(v_seen[:, g])
    return out


CASES = [
    (f"sequence:{CODEC}", 1, None, True),
    (f"sequence:{CODEC}", 2, None, True),
    (f"sequence:{CODEC}:sink=0", 5, None, True),
    (f"sequence:{CODEC}:halo=0", 3, None, True),
    (f"ring:{CODEC}:halo=4:layout=zigzag", 3, (2.0, 1.0, 1.0), True),
    (f"sequence:{CODEC}:layout=zigzag", 3, (1.0, 2.0, 2.0), True),
    (f"sequence:{CODEC}:sink=0", 3, (4.0, 1.0, 2.0), False),
    (f"ring:{CODEC}", 2, None, True),
    (f"ring:{CODEC}:chunks=2:sink=0", 4, (1.0, 2.0, 2.0, 1.0), True),
    (f"ring:{CODEC}:layout=zigzag", 2, None, True),
    (f"ring:{CODEC}:chunks=3:sink=0", 3, (4.0, 1.0, 2.0), False),
]


@pytest.mark.parametrize(("spec", "devices", "split", "causal"), CASES)
def test_equals_the_dense_masked_reference(spec, devices, split, causal):
    run, layout = program(spec, devices, split, causal)
    np.testing.assert_allclose(
        run(Q, KV), reference(Q, KV, layout, halos(spec, devices, split, causal), causal), atol=1e-5
    )


@pytest.mark.parametrize("name", ["sequence", "ring"])
def test_only_codes_cross(name):
    """A change too small to move a code does not reach the other devices, not by one bit; a larger one does."""
    run, layout = program(f"{name}:{CODEC}", 2, None, True)
    owner = layout.places[0]
    first = np.flatnonzero(owner == 0)[2]  # on device 0, not the shared token; later ones on device 1 can see it
    nudged = KV.copy()
    nudged[first] += 1e-3 * (nearest(KV)[first] - KV[first])  # towards its codewords: the codes stay
    before, after = run(Q, KV), run(Q, nudged)
    np.testing.assert_array_equal(after[owner == 1], before[owner == 1])
    assert (after[first:][owner[first:] == 0] != before[first:][owner[first:] == 0]).any()  # exact at home
    moved = KV.copy()
    moved[first] = -nearest(KV)[first]
    assert (nearest(moved)[first] != nearest(KV)[first]).any()
    assert (run(Q, moved)[owner == 1] != before[owner == 1]).any()


def test_a_shared_token_is_exact_everywhere():
    run, layout = program(f"sequence:{CODEC}", 2, None, True)
    assert layout.shared == 1
    nudged = KV.copy()
    nudged[0] += 1e-4
    owner = layout.places[0]
    assert (run(Q, nudged)[owner == 1] != run(Q, KV)[owner == 1]).any()
