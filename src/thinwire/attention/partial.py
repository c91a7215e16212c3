"""Softmax attention over part of the keys, and the exact merging of parts (log-sum-exp), in float32."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_NEVER = -1e30  # a score no real one reaches; finite, so that a part without any visible key makes no NaN


class Partial(NamedTuple):
    """Attention over some keys: the unnormalised output, the largest score, and the sum of exponentials."""

    out_THd: Float[Array, "T H d"]
    top_TH: Float[Array, "T H"]
    sum_TH: Float[Array, "T H"]


def nothing(T: int, H: int, d: int) -> Partial:
    """Attention over no keys: neutral in ``merge``."""
    return Partial(jnp.zeros((T, H, d)), jnp.full((T, H), _NEVER), jnp.zeros((T, H)))


def partial_attention(
    q_THd: Float[Array, "T H d"],
    k_SKd: Float[Array, "S K d"],
    v_SKd: Float[Array, "S K d"],
    visible_TS: Bool[Array, "T S"] | None,
    scale: float,
) -> Partial:
    """Attention of T queries over S keys; H/K query heads in a row share a key head. None: all keys are visible."""
    T, H, d = q_THd.shape
    K = k_SKd.shape[1]
    q_KgTd = q_THd.reshape(T, K, H // K, d).transpose(1, 2, 0, 3)
    score = jnp.einsum("kgtd,skd->kgts", q_KgTd, k_SKd, preferred_element_type=jnp.float32) * scale
    if visible_TS is not None:
        score = jnp.where(visible_TS[None, None], score, _NEVER)
    top = score.max(axis=-1)
    weight = jnp.exp(score - top[..., None])
    if visible_TS is not None:
        weight = jnp.where(visible_TS[None, None], weight, 0.0)
    # In this order of axes XLA keeps the operands as they are; turned round, its CPU backend (jax 0.10 to 0.12) cannot
    # multiply bfloat16 to float32 where there is one query head a key head.
    out_KgTd = jnp.einsum("kgts,skd->kgtd", weight.astype(v_SKd.dtype), v_SKd, preferred_element_type=jnp.float32)
    heads = lambda x: x.transpose(2, 0, 1).reshape(T, H)
    return Partial(out_KgTd.transpose(2, 0, 1, 3).reshape(T, H, d), heads(top), heads(weight.sum(axis=-1)))


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
