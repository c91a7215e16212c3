"""Random queries, exact rows and coded ones, and what attention to them is in JAX, everything decoded."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thinwire.attention.coded import Coded, coded
from thinwire.attention.partial import Partial, partial_attention
from thinwire.codecs.vq import lookup

HEADS, KEY_HEADS, WIDTH, SCALE = 4, 2, 8, 0.3


class Case(NamedTuple):
    q_THd: jnp.ndarray
    k_SKd: jnp.ndarray
    v_SKd: jnp.ndarray
    coded: Coded
    k_RKd: jnp.ndarray
    v_RKd: jnp.ndarray
    reach_T: jnp.ndarray
    position_S: jnp.ndarray
    position_R: jnp.ndarray


def case(groups: int, size: int, queries: int, own: int, remote: int, seed: int = 0, dtype=jnp.float32) -> Case:
    """Positions are in disorder; the first query reaches no key, the last one all."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    codebook = jnp.asarray(rng.normal(size=(groups, size, 2 * KEY_HEADS * WIDTH // groups)), jnp.float32)
    codes_RG = jnp.asarray(rng.integers(0, size, (remote, groups)), jnp.int32)
    k_RKd, v_RKd = jnp.split(lookup(codebook, codes_RG).reshape(remote, 2 * KEY_HEADS, WIDTH), 2, axis=1)
    position = rng.permutation(own + remote).astype(np.int32)
    reach_T = rng.integers(0, own + remote, queries).astype(np.int32)
    reach_T[-1], reach_T[0] = own + remote, -1
    return Case(
        draw(queries, HEADS, WIDTH),
        draw(own, KEY_HEADS, WIDTH),
        draw(own, KEY_HEADS, WIDTH),
        coded(codebook, codes_RG, KEY_HEADS, WIDTH),
        k_RKd.astype(dtype),
        v_RKd.astype(dtype),
        jnp.asarray(reach_T),
        jnp.asarray(position[:own]),
        jnp.asarray(position[own:]),
    )


def decoded_attention(case: Case, own: bool = True) -> Partial:
    """To all rows, or to those of the codes alone."""
    first = lambda x: x if own else x[:0]
    position = jnp.concatenate([first(case.position_S), case.position_R])
    return partial_attention(
        case.q_THd,
        jnp.concatenate([first(case.k_SKd), case.k_RKd]),
        jnp.concatenate([first(case.v_SKd), case.v_RKd]),
        position[None] <= case.reach_T[:, None],
        SCALE,
    )


def assert_same(found, expected: Partial, tolerance: float = 1e-5) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
