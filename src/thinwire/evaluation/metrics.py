"""How far a distributed run is from the single device, on the same tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_ROWS = 128  # rows of logits worked on at a time


@dataclasses.dataclass(frozen=True)
class Distance:
    """Sums over the predicted tokens of one window, and the window's largest differences."""

    predicted: int
    nll: float  # nats, of the next token
    nll_single: float
    kl: float  # nats, from the single device's distribution to this one's
    top1: int  # positions where both would choose the same token
    max_abs: float  # largest difference of a logit


def distance(
    logits_TV: Float[np.ndarray, "T V"], single_TV: Float[np.ndarray, "T V"], ids_T: Int[np.ndarray, " T"]
) -> Distance:
    """Compares two runs over one window; the last position predicts nothing and counts only for ``max_abs``."""
    tokens = len(ids_T)
    next_T = np.append(ids_T[1:], ids_T[:1])  # of the last position any, as it does not count
    counts_T = np.arange(tokens) < tokens - 1
    sums, max_abs = np.zeros(4), 0.0
    for start in range(0, tokens, _ROWS):
        rows = slice(start, start + _ROWS)
        found, largest = _sums(logits_TV[rows], single_TV[rows], next_T[rows], counts_T[rows])
        sums += np.asarray(found, float)
        max_abs = float(np.maximum(max_abs, largest))  # of a NaN too
    nll, nll_single, kl, top1 = sums
    return Distance(tokens - 1, nll, nll_single, kl, int(top1), max_abs)


@jax.jit
def _sums(logits_RV: Array, single_RV: Array, next_R: Array, counts_R: Array):
    log_p, log_q = jax.nn.log_softmax(single_RV), jax.nn.log_softmax(logits_RV)
    pick = lambda x_RV: jnp.take_along_axis(x_RV, next_R[:, None], axis=1)[:, 0]
    kl_R = jnp.sum(_divergence(log_p, log_q), axis=1)
    same_R = (logits_RV.argmax(axis=1) == single_RV.argmax(axis=1)).astype(jnp.float32)
    sums = [jnp.sum(jnp.where(counts_R, x_R, 0.0)) for x_R in (-pick(log_q), -pick(log_p), kl_R, same_R)]
    apart_RV = jnp.abs(logits_RV - single_RV)
    return jnp.stack(sums), jnp.where(jnp.isnan(apart_RV).any(), jnp.nan, apart_RV.max())


def _divergence(log_p, log_q):
    """Terms of KL(p, q) that are never negative: q − p, whose sum is 0, is added to each p · log(p/q).

    Otherwise the rounding of terms of both signs would drown a small divergence, and make it negative.
    """
    p, d = jnp.exp(log_p), log_q - log_p
    near = jnp.abs(d) < 1
    small = p * (jnp.expm1(jnp.where(near, d, 0.0)) - d)
    return jnp.maximum(jnp.where(near, small, jnp.exp(log_q) - p - p * d), 0.0)


@dataclasses.dataclass(frozen=True)
class Quality:
    """Distances of several windows, put together."""

    perplexity: float
    perplexity_ratio: float  # to the single device on the same tokens
    standard_error: float  # of the ratio, over windows; NaN with one window
    kl_to_single: float  # nats a token
    top1_agreement: float
    max_abs_logit_difference: float


def summarise(distances: list[Distance]) -> Quality:
    """Perplexity over all predicted tokens, and how it compares with the single device's."""
    predicted = sum(d.predicted for d in distances)
    nll = sum(d.nll for d in distances) / predicted
    change = np.array([(d.nll - d.nll_single) / d.predicted for d in distances])
    ratio = float(np.exp(nll - sum(d.nll_single for d in distances) / predicted))
    error = float(change.std(ddof=1) / np.sqrt(len(change)) * ratio) if len(change) > 1 else float("nan")
    return Quality(
        perplexity=float(np.exp(nll)),
        perplexity_ratio=ratio,
        standard_error=error,
        kl_to_single=sum(d.kl for d in distances) / predicted,
        top1_agreement=sum(d.top1 for d in distances) / predicted,
        max_abs_logit_difference=float(np.max([d.max_abs for d in distances])),
    )
