"""Softmax attention over part of the keys, and the exact merging of parts (log-sum-exp), in float32."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from thinwire.matmul import cpu_multiplies_bfloat16

# On a CPU about so many scores stay in the second-level cache (1 MB); more at a time go to memory and back.
_CPU_SCORES = 1 << 18
# So few are worth no loop over heads. Outside one, XLA may compute anew for every score which positions it belongs to.
_CPU_TOGETHER = 1 << 14
NEVER = -1e30  # a score no real one reaches; finite, so that a part without any visible key makes no NaN


class Partial(NamedTuple):
    """Attention over some keys: the unnormalised output, the largest score, and the sum of exponentials."""

    out_THd: Float[Array, "T H d"]
    top_TH: Float[Array, "T H"]
    sum_TH: Float[Array, "T H"]


def nothing(T: int, H: int, d: int) -> Partial:
    """Attention over no keys: neutral in ``merge``."""
    return Partial(jnp.zeros((T, H, d)), jnp.full((T, H), NEVER), jnp.zeros((T, H)))


def partial_attention(
    q_THd: Float[Array, "T H d"],
    k_SKd: Float[Array, "S K d"],
    v_SKe: Float[Array, "S K e"],
    visible_TS: Bool[Array, "T S"] | Bool[Array, " S"] | None,
    scale: float,
    precision: lax.PrecisionLike = None,
) -> Partial:
    """Attention of T queries over S keys; H/K query heads in a row share a key head.

    Args:
        visible_TS: which keys a query sees, or all queries; None: all.
        precision: of both products; None: the default.
    """
    T, H, _ = q_THd.shape
    S, K, e = v_SKe.shape
    g = H // K
    if visible_TS is not None:
        visible_TS = jnp.broadcast_to(visible_TS, (T, S))
    if q_THd.dtype == jnp.float32:
        q_THd, scale = q_THd * scale, 1.0  # queries are fewer numbers than scores

    def one_head(q_gTd, k_Sd, v_Sd, visible_TS, scale=scale):
        return _one_head(q_gTd, k_Sd, v_Sd, visible_TS, scale, precision)

    def together(q_THd, k_SKd, v_SKe):
        heads = (q_THd.reshape(T, K, g, -1).transpose(1, 2, 0, 3), k_SKd.swapaxes(0, 1), v_SKe.swapaxes(0, 1))
        return jax.vmap(lambda q_gTd, k_Sd, v_Sd: one_head(q_gTd, k_Sd, v_Sd, visible_TS))(*heads)

    def in_turn(q_THd, k_SKd, v_SKe):
        def head(n):
            q_gTd = lax.dynamic_slice_in_dim(q_THd, n * g, g, axis=1).swapaxes(0, 1)
            k_Sd, v_Sd = (lax.dynamic_index_in_dim(x, n, axis=1, keepdims=False) for x in (k_SKd, v_SKe))
            if q_THd.dtype == jnp.bfloat16 and cpu_multiplies_bfloat16():
                return _in_tiles(one_head, q_gTd, k_Sd, v_Sd, visible_TS)
            # Any other CPU would turn these into float32 tile by tile, and weights there and back.
            q_gTd, k_Sd, v_Sd = (x.astype(jnp.float32) for x in (q_gTd, k_Sd, v_Sd))
            return _in_tiles(functools.partial(one_head, scale=1.0), q_gTd * scale, k_Sd, v_Sd, visible_TS)

        return lax.map(head, jnp.arange(K))

    if H * T * S <= _CPU_TOGETHER:
        out_KgTd, top_KgT, sum_KgT = together(q_THd, k_SKd, v_SKe)
    else:
        out_KgTd, top_KgT, sum_KgT = lax.platform_dependent(q_THd, k_SKd, v_SKe, cpu=in_turn, default=together)
    flat = lambda x: x.transpose(2, 0, 1).reshape(T, H)
    return Partial(out_KgTd.transpose(2, 0, 1, 3).reshape(T, H, e), flat(top_KgT), flat(sum_KgT))


def _one_head(q_gTd, k_Sd, v_Sd, visible_TS, scale: float, precision: lax.PrecisionLike):
    """One key head and the query heads that share it: outputs, largest scores and sums."""
    product = functools.partial(jnp.einsum, precision=precision, preferred_element_type=jnp.float32)
    score_gTS = product("gtd,sd->gts", q_gTd, k_Sd)
    if scale != 1:
        score_gTS = score_gTS * scale
    if visible_TS is not None:
        score_gTS = jnp.where(visible_TS[None], score_gTS, NEVER)
    # What comes out does not depend on it but for rounding, so gradients need not go through the maximum.
    top_gT = lax.stop_gradient(score_gTS.max(axis=-1))
    # Above NEVER, so that keys that are not seen weigh nothing, also where none is.
    weight_gTS = jnp.exp(score_gTS - jnp.maximum(top_gT, NEVER / 2)[..., None])
    # In this order of axes XLA keeps the operands as they are; turned round, its CPU backend (jax 0.10 to 0.12) cannot
    # multiply bfloat16 to float32 where there is one query head a key head.
    out_gTd = product("gts,sd->gtd", weight_gTS.astype(v_Sd.dtype), v_Sd)
    return out_gTd, top_gT, weight_gTS.sum(axis=-1)


def _in_tiles(one_head, q_gTd, k_Sd, v_Sd, visible_TS):
    """The same, some rows of queries after others, so that scores stay in the cache between their two products."""
    g, T, d = q_gTd.shape
    tiles = min(T, max(1, round(g * T * len(k_Sd) / _CPU_SCORES)))
    rows = -(-T // tiles)
    if tiles == 1:
        return one_head(q_gTd, k_Sd, v_Sd, visible_TS)
    more = tiles * rows - T
    cut = lambda x, axis: jnp.pad(x, [(0, more * (i == axis)) for i in range(x.ndim)])
    q_ngRd = cut(q_gTd, 1).reshape(g, tiles, rows, d).swapaxes(0, 1)
    visible_nRS = None if visible_TS is None else cut(visible_TS, 0).reshape(tiles, rows, -1)
    out_ngRd, top_ngR, sum_ngR = lax.map(lambda tile: one_head(tile[0], k_Sd, v_Sd, tile[1]), (q_ngRd, visible_nRS))
    joined = lambda x: x.swapaxes(0, 1).reshape(g, tiles * rows, *x.shape[3:])[:, :T]
    return joined(out_ngRd), joined(top_ngR), joined(sum_ngR)


def merge(a: Partial, b: Partial) -> Partial:
    """Attention over the keys of both parts, exactly."""
    top = jnp.maximum(a.top_TH, b.top_TH)
    scale_a, scale_b = jnp.exp(a.top_TH - top), jnp.exp(b.top_TH - top)
    return Partial(
        a.out_THd * scale_a[..., None] + b.out_THd * scale_b[..., None],
        top,
        a.sum_TH * scale_a + b.sum_TH * scale_b,
    )


def finish(part: Partial) -> Float[Array, "T H d"]:
    """The attention output; zero for a query that saw no key."""
    return part.out_THd / jnp.where(part.sum_TH == 0, 1.0, part.sum_TH)[..., None]
