"""What calibration learns for each kind of quantiser, from rows: one learning rule a codec class."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from thinwire.codebooks.kmeans import fit
from thinwire.codecs import FSQ, Codec, GroupedVQ, LowRank, Predictive, ResidualVQ, Sign
from thinwire.codecs.uniform import from_codes, to_codes
from thinwire.codecs.vq import lookup, search

Rows = Float[np.ndarray, "n D"]
Weights = Float[np.ndarray, " n"]
Learnt = dict[str, np.ndarray]

# Rows that k-means looks at: so many for each codeword, and never fewer than the second; more change little.
ROWS_A_CODEWORD, FEWEST_ROWS = 32, 8192
STEPS_TRIED = 48  # of a coordinate, from its range down to a thousandth of it


def learn(key: Array, codec: Codec, rows_nD: Rows, weights_n: Weights | None = None) -> Learnt:
    """The arrays of one layer that ``codec`` needs; none for a codec that learns nothing.

    Args:
        weights_n: how much each row counts, where codewords are learnt; all alike if None.

    Raises:
        ThinwireError: there are fewer rows than codewords.
    """
    if not codec.learns:
        return {}
    weights_n = np.ones(len(rows_nD), np.float32) if weights_n is None else weights_n
    return LEARNERS[type(codec)](key, codec, rows_nD, weights_n)


def codewords(codec: Codec) -> int:
    """Codewords of a group that learning has to tell apart, which it needs as many rows for; 1 without codebooks."""
    return getattr(codec.quantiser if isinstance(codec, Predictive) else codec, "size", 1)


def _vq(key: Array, codec: GroupedVQ, rows_nD: Rows, weights_n: Weights) -> Learnt:
    """K-means in every group, and the space in which codewords are searched where it is not all."""
    some = enough(len(rows_nD), codec.size)
    codebook = fit(key, rows_nD[some], codec.groups, codec.size, weights=weights_n[some])
    return {name: np.asarray(array) for name, array in {"codebook": codebook, **codec.space(codebook)}.items()}


def enough(rows: int, size: int) -> slice:
    """Evenly spread rows, as many as k-means with so many codewords needs."""
    return slice(None, None, max(1, rows // max(FEWEST_ROWS, ROWS_A_CODEWORD * size)))


def _rvq(key: Array, codec: ResidualVQ, rows_nD: Rows, weights_n: Weights) -> Learnt:
    """K-means stage by stage, on what the stages before leave."""
    books, some = [], enough(len(rows_nD), codec.size)
    rows_nD, weights_n = rows_nD[some], weights_n[some]
    for stage in range(codec.stages):
        stage_key = jax.random.fold_in(key, stage) if stage else key
        book = fit(stage_key, rows_nD, codec.groups, codec.size, weights=weights_n)
        rows_nD = np.asarray(_left(book, rows_nD))
        books.append(np.asarray(book))
    return {"codebook": np.stack(books)}


def _on_axes(key: Array, codec: LowRank | FSQ, rows_nD: Rows, weights_n: Weights) -> Learnt:
    """The mean, the principal axes and the steps of the coordinates on them."""
    del key, weights_n
    mean_D, basis_DD = principal_axes(rows_nD)
    basis_Dr = basis_DD[:, : codec.dims]
    step_r = best_steps(jnp.asarray((rows_nD - mean_D) @ basis_Dr), codec.levels)
    return {"mean": mean_D, "basis": basis_Dr, "step": np.asarray(step_r)}


def _sign(key: Array, codec: Sign, rows_nD: Rows, weights_n: Weights) -> Learnt:
    """The mean row."""
    del key, codec, weights_n
    return {"mean": rows_nD.mean(axis=0, dtype=np.float64).astype(np.float32)}


LEARNERS: dict[type[Codec], Callable[[Array, Any, Rows, Weights], Learnt]] = {
    GroupedVQ: _vq,
    ResidualVQ: _rvq,
    LowRank: _on_axes,
    FSQ: _on_axes,
    Sign: _sign,
}


def principal_axes(rows_nD: Rows) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """The mean row and the axes of the rows about it, largest variance first; orthonormal columns."""
    mean_D = rows_nD.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes_DD = np.linalg.eigh(np.asarray(gram(jnp.asarray(rows_nD - mean_D)), np.float64))
    axes_DD = axes_DD[:, ::-1]
    # An axis may point either way: let its largest entry be positive, so that every machine finds the same.
    largest_D = axes_DD[np.argmax(np.abs(axes_DD), axis=0), np.arange(axes_DD.shape[1])]
    return mean_D, (axes_DD * np.where(largest_D < 0, -1, 1)).astype(np.float32)


@functools.partial(jax.jit, static_argnames="levels")
def best_steps(z_nr: Float[Array, "n r"], levels: int) -> Float[Array, "r"]:
    """For each coordinate the step of a uniform quantiser of ``levels`` levels that leaves least squared error.

    The best of a coarse choice of steps, then a few Lloyd iterations: the codes by the step, the step by the codes.
    """
    # So large a step puts the farthest value on the outer level; 2 levels have one half a step from zero.
    widest_r = jnp.max(jnp.abs(z_nr), axis=0) * 2 / (levels - 1)

    def error(step_r):
        return jnp.mean((z_nr - from_codes(to_codes(z_nr, step_r, levels), step_r, levels)) ** 2, axis=0)

    tried_sr = jnp.geomspace(1e-3, 1, STEPS_TRIED)[:, None] * widest_r[None]
    error_sr = jax.lax.map(error, tried_sr)
    step_r = jnp.take_along_axis(tried_sr, jnp.argmin(error_sr, axis=0)[None], axis=0)[0]

    def refine(step_r, _):
        level_nr = from_codes(to_codes(z_nr, step_r, levels), jnp.ones_like(step_r), levels)
        square_r = jnp.sum(level_nr**2, axis=0)
        better_r = jnp.sum(level_nr * z_nr, axis=0) / jnp.where(square_r > 0, square_r, 1.0)
        return jnp.where(square_r > 0, better_r, step_r), None

    return jax.lax.scan(refine, step_r, length=4)[0]


@jax.jit
def gram(rows_nD: Float[Array, "n D"]) -> Float[Array, "D D"]:
    """Products of the columns with each other."""
    return rows_nD.T @ rows_nD


@jax.jit
def _left(book_GCE, rows_nD):
    return rows_nD - lookup(book_GCE, search(book_GCE, rows_nD))
