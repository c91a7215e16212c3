"""Random queries, exact rows and coded ones, and what attention to them is in JAX, everything decoded."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinwire.attention.coded import Coded, coded
from thinwire.attention.partial import Partial, partial_attention
from thinwire.codecs.vq import lookup

HEADS, KEY_HEADS, WIDTH, SCALE = 4, 2, 8, 0.3


class Case(NamedTuple):
    q_THd: jax.Array
    k_SKd: jax.Array
    v_SKd: jax.Array
    codebook: jax.Array
    codes_RG: jax.Array
    reach_T: jax.Array
    position_S: jax.Array
    position_R: jax.Array

    @property
    def coded(self) -> Coded:
        return coded(self.codebook, self.codes_RG, KEY_HEADS, WIDTH)

    @property
    def decoded(self) -> list[jax.Array]:
        rows_RXd = lookup(self.codebook, self.codes_RG).reshape(-1, 2 * KEY_HEADS, WIDTH)
        return jnp.split(rows_RXd.astype(self.k_SKd.dtype), 2, axis=1)


def case(groups: int, size: int, queries: int, own: int, remote: int, seed: int = 0, dtype=jnp.float32) -> Case:
    """Positions are in disorder; the first query reaches no key, the last one all."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape, dtype=dtype: jnp.asarray(rng.normal(size=shape), dtype)
    position = rng.permutation(own + remote).astype(np.int32)
    reach_T = rng.integers(0, own + remote, queries).astype(np.int32)
    reach_T[-1], reach_T[0] = own + remote, -1
    return Case(
        draw(queries, HEADS, WIDTH),
        draw(own, KEY_HEADS, WIDTH),
        draw(own, KEY_HEADS, WIDTH),
        draw(groups, size, 2 * KEY_HEADS * WIDTH // groups, dtype=jnp.float32),
        jnp.asarray(rng.integers(0, size, (remote, groups)), jnp.int32),
        jnp.asarray(reach_T),
        jnp.asarray(position[:own]),
        jnp.asarray(position[own:]),
    )


@functools.partial(jax.jit, static_argnames="own")
def decoded_attention(case: Case, own: bool = True) -> Partial:
    """To all rows, or to those of the codes alone."""
    first = lambda x: x if own else x[:0]
    position = jnp.concatenate([first(case.position_S), case.position_R])
    k_RKd, v_RKd = case.decoded
    return partial_attention(
        case.q_THd,
        jnp.concatenate([first(case.k_SKd), k_RKd]),
        jnp.concatenate([first(case.v_SKd), v_RKd]),
        position[None] <= case.reach_T[:, None],
        SCALE,
    )


def assert_same(found, expected: Partial, tolerance: float = 1e-5) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
