"""Is what was learnt any good? How well a codec describes data, and how the data use the codewords of a codebook."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams
from thinwire.codecs.vq import GroupedVQ, lookup, search

# Rows that are looked at in one go.
_CHUNK = 16384


@functools.partial(jax.jit, static_argnames="size")
def _figures(codebook: Array, x_nD: Array, mean_D: Array, size: int) -> tuple[Array, Array, Array]:
    """Returns the uses of each codeword (G, C), the residual sum of squares and the rows' own about ``mean_D``."""
    codes_nG = search(codebook, x_nD)
    G = codebook.shape[0]
    flat = (codes_nG + jnp.arange(G, dtype=jnp.int32)[None, :] * size).reshape(x_nD.shape[0] * G)
    uses_GC = jnp.zeros((G * size,), jnp.int32).at[flat].add(1).reshape(G, size)
    residual = jnp.sum((x_nD - lookup(codebook, codes_nG)) ** 2)
    return uses_GC, residual, jnp.sum((x_nD - mean_D[None, :]) ** 2)


def health(codebook: Float[Array, "G C E"], x_nD: Float[Array, "n D"] | Float[np.ndarray, "n D"]) -> dict[str, float]:
    """Returns figures of one layer's codebook against rows, at best rows that it was not learnt from.

    Returns:
        ``usage_min``, ``usage_mean``, ``usage_max``: the part of the rows that the least, the average and the most
        used codeword of any group takes. ``dead``: codewords that no row uses, over all groups. ``perplexity``:
        exp of the entropy of the usage, averaged over groups; ``size`` would be even use. ``relative_error``: residual
        variance over variance; 0 is exact, 1 is no better than the mean row. ``norm_min``, ``norm_mean``,
        ``norm_max``: lengths of the codewords.
    """
    G, C, _ = codebook.shape
    x_nD = np.asarray(x_nD, np.float32)
    n = x_nD.shape[0]
    if n == 0:
        raise ValueError("health needs at least one row")
    mean_D = jnp.asarray(x_nD.mean(axis=0, dtype=np.float64).astype(np.float32))
    uses_GC, residual, variance = np.zeros((G, C), np.int64), 0.0, 0.0
    for at in range(0, n, _CHUNK):
        uses, res, var = _figures(codebook, jnp.asarray(x_nD[at : at + _CHUNK]), mean_D, C)
        uses_GC += np.asarray(uses)
        residual += float(res)
        variance += float(var)
    part_GC = uses_GC / n
    entropy_G = -np.sum(part_GC * np.log(np.where(part_GC > 0, part_GC, 1.0)), axis=1)
    norms = np.linalg.norm(np.asarray(codebook, np.float64), axis=-1)
    return {
        "usage_min": float(part_GC.min()),
        "usage_mean": float(part_GC.mean()),
        "usage_max": float(part_GC.max()),
        "dead": float(np.count_nonzero(uses_GC == 0)),
        "perplexity": float(np.exp(entropy_G).mean()),
        "relative_error": _relative(residual, variance),
        "norm_min": float(norms.min()),
        "norm_mean": float(norms.mean()),
        "norm_max": float(norms.max()),
    }


def figures_of(
    codec: Codec, params: Mapping[str, Array | np.ndarray], x_nD: Float[np.ndarray, "n D"]
) -> dict[str, float]:
    """Returns the figures of any codec: those of its codebook, or ``relative_error`` alone where it has none."""
    if isinstance(codec, GroupedVQ):
        return health(jnp.asarray(params["codebook"]), x_nD)
    return {"relative_error": relative_error(codec, {name: jnp.asarray(x) for name, x in params.items()}, x_nD)}


def relative_error(codec: Codec, params: CodecParams, x_nD: Float[np.ndarray, "n D"]) -> float:
    """Residual variance over variance of rows that were encoded and decoded, as in ``health``."""
    x_nD = np.asarray(x_nD, np.float32)
    variance = float(((x_nD - x_nD.mean(axis=0, dtype=np.float64)) ** 2).sum())
    residual = 0.0
    for at in range(0, x_nD.shape[0], _CHUNK):
        rows_nD = x_nD[at : at + _CHUNK]
        residual += float(((rows_nD - np.asarray(_there_and_back(codec, params, rows_nD), np.float64)) ** 2).sum())
    return _relative(residual, variance)


def _relative(residual: float, variance: float) -> float:
    return residual / variance if variance > 0 else (0.0 if residual == 0 else float("inf"))


@functools.partial(jax.jit, static_argnames="codec")
def _there_and_back(codec: Codec, params: CodecParams, x_nD: Array) -> Array:
    return codec.decode(params, codec.encode(params, x_nD), x_nD.shape[0], x_nD.shape[1])
