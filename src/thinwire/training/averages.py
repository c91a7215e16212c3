"""What moves with the rows and not with gradients: EMA codebooks, and the distribution of the residual."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codebooks import kmeans
from thinwire.codecs import Codec, GroupedVQ, Predictive, ResidualVQ
from thinwire.codecs.base import SHARED
from thinwire.codecs.vq import lookup, search

Arrays = Mapping[str, Mapping[str, Any]]  # by site, (L, ...)
JITTER = 1e-6  # of the mean variance, so that a covariance of few rows has a root
_SEARCH_SPACE = ("basis", "projected")


def quantiser_of(codec: Codec) -> Codec:
    """What codes rows, or what a prediction leaves of them."""
    return codec.quantiser if isinstance(codec, Predictive) else codec


def in_training(codec: Codec, arrays: Arrays) -> dict[str, dict[str, Any]]:
    """The arrays as they are trained: codewords move, so they are searched exactly and in no smaller space."""
    gone = _SEARCH_SPACE if isinstance(quantiser_of(codec), GroupedVQ) else ()
    return {site: {k: v for k, v in of_site.items() if k not in gone} for site, of_site in arrays.items()}


def after_training(codec: Codec, arrays: Arrays) -> dict[str, dict[str, Any]]:
    """The arrays as they are used: with the space in which wide groups are searched."""
    quantiser, finished = quantiser_of(codec), {}
    for site, of_site in arrays.items():
        finished[site] = dict(of_site)
        if isinstance(quantiser, GroupedVQ) and site != SHARED:
            finished[site] |= jax.vmap(quantiser.space)(of_site["codebook"])
    return finished


def start_counts(codec: Codec, arrays: Arrays, rows: int, decay: float) -> dict[str, dict[str, Array]]:
    """Running sums and counts as if the codebooks had been in even use by ``rows`` rows a step for long.

    Returns:
        ``{site: {"sums": (L, G, C, E), "counts": (L, G, C)}}``, of residual VQ with an axis of stages behind the
        first; {} for codecs without a codebook.
    """
    if not isinstance(quantiser_of(codec), GroupedVQ | ResidualVQ):
        return {}
    averages = {}
    for site, of_site in arrays.items():
        if site == SHARED:
            continue
        book_LxGCE = of_site["codebook"]
        count = rows / (book_LxGCE.shape[-2] * max(1 - decay, 1e-6))
        averages[site] = {"sums": count * book_LxGCE, "counts": jnp.full(book_LxGCE.shape[:-1], count)}
    return averages


def move_codebooks(
    key: Array,
    arrays: Arrays,
    averages: Arrays,
    rows_LnQ: Float[Array, "L n Q"],
    valid_Ln: Float[Array, "L n"],
    decay: float,
) -> tuple[dict[str, dict[str, Array]], dict[str, dict[str, Array]]]:
    """One EMA step of the codebooks of all layers, with revival of dead codewords [``codebooks.kmeans.step``].

    Args:
        key: chooses the rows for dead codewords.
        arrays: the codec's, by site; there is one site beside what layers share.
        averages: as of ``start_counts``.
        rows_LnQ: rows as the quantiser sees them.
        valid_Ln: their weights; layers without any (recomputed ones) are left alone.

    Returns:
        The new arrays and averages.
    """
    arrays, averages = {k: dict(v) for k, v in arrays.items()}, {k: dict(v) for k, v in averages.items()}
    for site, of_site in averages.items():
        state = kmeans.KMeansState(arrays[site]["codebook"], of_site["sums"], of_site["counts"])
        L, *stages, G, _, E = state.codebook.shape
        rows_LnGE = rows_LnQ.reshape(L, -1, G, E)
        moved_by = _move_stages if stages else _move
        step = functools.partial(moved_by, decay=jnp.float32(decay))
        moved = jax.vmap(step)(jax.random.split(key, L), state, rows_LnGE, valid_Ln)
        moved = jax.tree.map(functools.partial(_where_layer, valid_Ln.sum(axis=1) > 0), moved, state)
        arrays[site]["codebook"] = moved.codebook
        averages[site] = {"sums": moved.sums, "counts": moved.counts}
    return arrays, averages


def _move(key, state: kmeans.KMeansState, rows_nGE, weights_n, decay) -> kmeans.KMeansState:
    return kmeans.step(key, state, rows_nGE, weights_n, decay)[0]


def _move_stages(key, state_S: kmeans.KMeansState, rows_nGE, weights_n, decay) -> kmeans.KMeansState:
    """Each stage follows what the stages before it, as they coded, have left of the rows."""

    def one_stage(left_nGE, given):
        key, state = given
        codes_nG = search(state.codebook, left_nGE.reshape(len(left_nGE), -1))
        seen_nGE = lookup(state.codebook, codes_nG).reshape(left_nGE.shape)
        return left_nGE - seen_nGE, _move(key, state, left_nGE, weights_n, decay)

    keys = jax.random.split(key, len(state_S.codebook))
    return jax.lax.scan(one_stage, rows_nGE, (keys, state_S))[1]


def start_residuals(layers: int, dim: int, full: bool) -> dict[str, Array]:
    """The distribution before any row was seen: no noise. ``weight`` (L,) is how much has been seen, below 1."""
    spread = (layers, dim, dim) if full else (layers, dim)
    return {"mean": jnp.zeros((layers, dim)), "second": jnp.zeros(spread), "weight": jnp.zeros(layers)}


def move_residuals(
    seen: Mapping[str, Array], rows_LnD: Float[Array, "L n D"], valid_Ln: Float[Array, "L n"], decay: float
) -> dict[str, Array]:
    """Running means of the residual and of its square (or outer product), without the bias of their start."""
    count_L = jnp.maximum(valid_Ln.sum(axis=1), 1.0)
    weighted_LnD = rows_LnD * valid_Ln[:, :, None]
    mean_LD = weighted_LnD.sum(axis=1) / count_L[:, None]
    full = seen["second"].ndim == 3
    second = jnp.einsum("lnd,lne->lde" if full else "lnd,lnd->ld", weighted_LnD, rows_LnD)
    second = second / count_L.reshape(-1, *[1] * (second.ndim - 1))
    new = {"mean": mean_LD, "second": second, "weight": jnp.ones(len(mean_LD))}
    kept_L = jnp.where(valid_Ln.sum(axis=1) > 0, decay, 1.0)

    def move(old, new):
        kept = kept_L.reshape(-1, *[1] * (old.ndim - 1))
        return kept * old + (1 - kept) * new

    return jax.tree.map(move, dict(seen), new)


def noise_root(seen: Mapping[str, Array]) -> tuple[Float[Array, "L D"], Float[Array, "L D"] | Float[Array, "L D D"]]:
    """Mean of the residual by layer, and a root of its covariance; zeros where nothing was seen yet."""
    weight_L = jnp.maximum(seen["weight"], 1e-12)
    mean_LD = seen["mean"] / weight_L[:, None]
    if seen["second"].ndim == 2:
        return mean_LD, jnp.sqrt(jnp.maximum(seen["second"] / weight_L[:, None] - mean_LD**2, 0.0))
    covariance_LDD = seen["second"] / weight_L[:, None, None] - mean_LD[:, :, None] * mean_LD[:, None, :]
    dim = mean_LD.shape[1]
    variance_L = jnp.trace(covariance_LDD, axis1=1, axis2=2) / dim
    lift_L = jnp.where(variance_L > 0, JITTER * variance_L, 1.0)
    root_LDD = jnp.linalg.cholesky(covariance_LDD + lift_L[:, None, None] * jnp.eye(dim)[None])
    return mean_LD, jnp.where((variance_L > 0)[:, None, None], root_LDD, 0.0)


def _where_layer(which_L, new, old):
    return jnp.where(which_L.reshape(-1, *[1] * (new.ndim - 1)), new, old)
