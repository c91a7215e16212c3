"""K-means for all groups of a codebook at once: k-means++ seeding, mini-batch Lloyd steps, revival of dead codewords.

A step assigns a batch of rows, adds their sums and counts to running ones, which have first been multiplied by
``decay``, and moves every codeword to sum / count. With ``decay=0`` and all rows as the batch it is a Lloyd iteration.
A codeword that almost no row uses is put on a row that is badly served, *and its running sum and count restart there*:
left alone, they would pull it back to its dead place.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from thinwire.codecs.vq import GroupedVQ, lookup, search
from thinwire.errors import ThinwireError

# A codeword is dead when its running count is below this part of what an even use would give it.
DEAD_BELOW = 0.02
# The running count that a revived codeword starts with, in the same measure (and never less than one row): enough to
# live until rows near it come by, too little to hold it back when they do.
REVIVED_WITH = 0.1
# Rows that the seeding looks at: this many for each codeword, and never fewer than 4096.
_SEED_ROWS = 4
# Passes over the data: the error of new rows is then within 1 % of where it settles.
PASSES = 6
# Rows of one batch, unless a codebook is so large that it needs more. Data that fit are one batch: plain Lloyd.
_BATCH_ROWS = 16384


class KMeansState(NamedTuple):
    """Codewords with what they are means of.

    Attributes:
        codebook: (G, C, E), the codewords.
        sums: (G, C, E), the decayed sum of the rows assigned to each.
        counts: (G, C), their decayed weight.
    """

    codebook: Array
    sums: Array
    counts: Array


def _rows_at(mass_Gn: Array, part_Gd: Array) -> Array:
    """Returns the row at which each part (0 to 1) of a group's total mass is reached, int32 (G, d).

    Parts that are evenly spaced draw rows in proportion to their mass, and seldom the same one twice.
    """
    reached_Gn = jnp.cumsum(mass_Gn, axis=1)
    at_Gd = part_Gd * reached_Gn[:, -1:]
    rows_Gd = jax.vmap(lambda reached, at: jnp.searchsorted(reached, at, side="right"))(reached_Gn, at_Gd)
    # Rounding may carry a part past the end, where rows may have no mass: fall back to the last row that has some.
    last_G1 = mass_Gn.shape[1] - 1 - jnp.argmax(mass_Gn[:, ::-1] > 0, axis=1, keepdims=True)
    return jnp.minimum(rows_Gd, last_G1).astype(jnp.int32)


def _draw(key: Array, mass_Gn: Array, draws: int) -> Array:
    """Draws ``draws`` rows for each group in proportion to their mass, evenly spaced over it: int32 (G, draws)."""
    offset_G1 = jax.random.uniform(key, (mass_Gn.shape[0], 1))
    return _rows_at(mass_Gn, (jnp.arange(draws, dtype=jnp.float32)[None, :] + offset_G1) / draws)


def _seed_rounds(size: int) -> tuple[int, int]:
    """Returns (rounds, codewords a round): one at a time up to 64 codewords, else about 64 rounds of at most 64."""
    by_round = min(64, -(-size // 64))
    return -(-(size - 1) // by_round), by_round


@functools.partial(jax.jit, static_argnames="size")
def seed(key: Array, x_nGE: Float[Array, "n G E"], size: int, weights_n: Float[Array, "n"]) -> Float[Array, "G C E"]:
    """Picks ``size`` of the rows for each group by k-means++: a row's chance grows with its squared error so far.

    Above 64 codewords several are picked a round, spread over the error but without looking at each other.

    Args:
        key: a PRNG key.
        x_nGE: rows, in groups.
        size: codewords ``C`` to pick.
        weights_n: the weight of each row; rows of weight 0 are not picked.
    """
    n, G, E = x_nGE.shape
    x_GnE = x_nGE.transpose(1, 0, 2)
    norm_Gn = jnp.sum(x_GnE * x_GnE, axis=-1)
    rounds, by_round = _seed_rounds(size)

    def pick(error_Gn, key):
        mass_Gn = error_Gn * weights_n[None, :]
        # Fewer distinct rows than codewords: nothing has an error any more, any row will do.
        mass_Gn = jnp.where(jnp.sum(mass_Gn, axis=1, keepdims=True) > 0, mass_Gn, weights_n[None, :])
        new_GkE = jnp.take_along_axis(x_GnE, _draw(key, mass_Gn, by_round)[:, :, None], axis=1)
        dots_Gkn = jnp.einsum("gke,gne->gkn", new_GkE, x_GnE, precision=lax.Precision.HIGHEST)
        new_norm_Gk = jnp.sum(new_GkE * new_GkE, axis=-1)
        distance_Gn = norm_Gn + jnp.min(new_norm_Gk[:, :, None] - 2 * dots_Gkn, axis=1)
        # The difference of large numbers: what is below their rounding is no error.
        distance_Gn = jnp.where(distance_Gn > 1e-6 * norm_Gn, distance_Gn, 0.0)
        return jnp.minimum(error_Gn, distance_Gn), new_GkE

    first_key, key = jax.random.split(key)
    by_weight_Gn = jnp.broadcast_to(weights_n[None, :], (G, n))
    first_G1E = jnp.take_along_axis(x_GnE, _draw(first_key, by_weight_Gn, 1)[:, :, None], axis=1)
    error_Gn = jnp.sum((x_GnE - first_G1E) ** 2, axis=-1)
    _, picked = lax.scan(pick, error_Gn, jax.random.split(key, rounds))
    picked_GkE = picked.transpose(1, 0, 2, 3).reshape(G, rounds * by_round, E)
    return jnp.concatenate([first_G1E, picked_GkE], axis=1)[:, :size]


def start(codebook: Float[Array, "G C E"]) -> KMeansState:
    """Returns the state before the first step: the codewords as given, sums and counts of nothing."""
    return KMeansState(codebook, jnp.zeros_like(codebook), jnp.zeros(codebook.shape[:2], codebook.dtype))


def _add(codes_nG: Array, x_nGE: Array, weights_n: Array, size: int) -> tuple[Array, Array]:
    """Returns the weighted sums (G, C, E) and counts (G, C) of the rows by codeword."""
    n, G, E = x_nGE.shape
    flat = (codes_nG + jnp.arange(G, dtype=jnp.int32)[None, :] * size).reshape(n * G)
    sums = jnp.zeros((G * size, E), jnp.float32).at[flat].add((x_nGE * weights_n[:, None, None]).reshape(n * G, E))
    counts = jnp.zeros((G * size,), jnp.float32).at[flat].add(jnp.repeat(weights_n, G))
    return sums.reshape(G, size, E), counts.reshape(G, size)


def _revive(key: Array, state: KMeansState, x_nGE: Array, error_nG: Array) -> KMeansState:
    """Puts dead codewords on badly served rows and restarts their sums and counts there."""
    even_G1 = jnp.mean(state.counts, axis=1, keepdims=True)
    # Where every row is served without error there is nowhere better to be.
    dead_GC = (state.counts < DEAD_BELOW * even_G1) & (jnp.sum(error_nG, axis=0)[:, None] > 0)
    deaths_G1 = jnp.maximum(jnp.sum(dead_GC, axis=1, keepdims=True), 1).astype(jnp.float32)
    rank_GC = jnp.maximum(jnp.cumsum(dead_GC, axis=1) - 1, 0).astype(jnp.float32)
    offset_G1 = jax.random.uniform(key, deaths_G1.shape)
    rows_GC = _rows_at(error_nG.T, (rank_GC + offset_G1) / deaths_G1)
    fresh_GCE = jnp.take_along_axis(x_nGE.transpose(1, 0, 2), rows_GC[:, :, None], axis=1)
    dead_GC1 = dead_GC[:, :, None]
    count_G1 = jnp.maximum(REVIVED_WITH * even_G1, 1.0)
    return KMeansState(
        codebook=jnp.where(dead_GC1, fresh_GCE, state.codebook),
        sums=jnp.where(dead_GC1, fresh_GCE * count_G1[:, :, None], state.sums),
        counts=jnp.where(dead_GC, count_G1, state.counts),
    )


@jax.jit
def step(
    key: Array, state: KMeansState, x_nGE: Float[Array, "n G E"], weights_n: Float[Array, "n"], decay: Float[Array, ""]
) -> tuple[KMeansState, Float[Array, ""]]:
    """One mini-batch step with revival; returns the new state and the batch's mean squared error before it.

    Args:
        key: chooses the rows for dead codewords.
        state: the state so far.
        x_nGE: a batch of rows, in groups.
        weights_n: their weights, about 1; 0 leaves a row out.
        decay: what is kept of the running sums and counts, 0 to 1; 0 is a Lloyd iteration over the batch.
    """
    n, G, E = x_nGE.shape
    codes_nG = search(state.codebook, x_nGE.reshape(n, G * E))
    near_nGE = lookup(state.codebook, codes_nG).reshape(n, G, E)
    error_nG = jnp.sum((x_nGE - near_nGE) ** 2, axis=-1) * weights_n[:, None]
    sums, counts = _add(codes_nG, x_nGE, weights_n, state.counts.shape[1])
    sums, counts = decay * state.sums + sums, decay * state.counts + counts
    used_GC1 = counts[:, :, None] > 0
    codebook = jnp.where(used_GC1, sums / jnp.where(used_GC1, counts[:, :, None], 1.0), state.codebook)
    mean_error = jnp.sum(error_nG) / (jnp.maximum(jnp.sum(weights_n), 1e-30) * (G * E))
    return _revive(key, KMeansState(codebook, sums, counts), x_nGE, error_nG), mean_error


def fit(
    key: Array,
    x_nD: Float[Array, "n D"] | Float[np.ndarray, "n D"],
    groups: int,
    size: int,
    steps: int = PASSES,
    weights: Float[Array, "n"] | Float[np.ndarray, "n"] | None = None,
) -> Float[Array, "G C E"]:
    """Learns a codebook from rows; the same key and rows give the same codebook.

    Up to 16384 rows are one batch (Lloyd iterations); more are shuffled once and go batch by batch, with a decay that
    remembers about one pass, so that memory holds one batch whatever ``n`` is.

    Args:
        key: a PRNG key.
        x_nD: the rows, one a token.
        groups: pieces ``G`` a row is cut into; must divide ``D``.
        size: codewords ``C`` of each group.
        steps: passes over the rows.
        weights: how much each row counts, 0 or more; all alike if None.

    Raises:
        ThinwireError: the groups do not divide the width, there are fewer rows than codewords, or rows are not finite.
    """
    GroupedVQ(groups, size).check(x_nD.shape[1])
    x_nD = np.asarray(x_nD, np.float32)
    n, dim = x_nD.shape
    weights_n = np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32)
    rows = int(np.count_nonzero(weights_n > 0))
    if rows < size:
        raise ThinwireError(
            f"{rows} rows are too few to learn {size} codewords: calibrate on more tokens or choose a smaller size."
        )
    if not (np.isfinite(x_nD).all() and np.isfinite(weights_n).all() and weights_n.min() >= 0):
        raise ThinwireError("Codebooks cannot be learnt from rows that hold NaN or infinity, or a negative weight.")
    weights_n = weights_n * np.float32(rows / weights_n.sum(dtype=np.float64))

    order_key, seed_key, key = jax.random.split(key, 3)
    batch = min(n, max(_BATCH_ROWS, 8 * size))
    batches = -(-n // batch)
    batch = -(-n // batches)
    seed_rows = min(rows, max(4096, _SEED_ROWS * size))
    order = np.asarray(jax.random.permutation(order_key, n))
    # Rows without weight would take up room in the seeding.
    seeding = order[weights_n[order] > 0][:seed_rows]

    def take(index: np.ndarray) -> tuple[Array, Array]:
        short = batch - index.size
        x_nGE = np.pad(x_nD[index], ((0, short), (0, 0))).reshape(batch, groups, dim // groups)
        return jnp.asarray(x_nGE), jnp.asarray(np.pad(weights_n[index], (0, short)))

    x_seed = jnp.asarray(x_nD[seeding].reshape(seeding.size, groups, dim // groups))
    state = start(seed(seed_key, x_seed, size, jnp.asarray(weights_n[seeding])))
    del x_seed
    decay = jnp.float32(1 - 1 / batches)
    held = take(order) if batches == 1 else None
    for i in range(steps * batches):
        at = i % batches * batch
        x_nGE, batch_weights_n = held if held is not None else take(order[at : at + batch])
        state, _ = step(jax.random.fold_in(key, i), state, x_nGE, batch_weights_n, decay)
    return state.codebook
