"""Learning a predictive codec: ridge regression, a rotation and the quantiser, layer by layer, in closed loop.

Each layer is learnt from what the layers below will really have decoded, so predictor and quantiser see at calibration
what they will see in use.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from thinwire.codecs.base import Codec
from thinwire.codecs.predictive import Predictive
from thinwire.models.families import FAMILIES
from thinwire.training import quantisers
from thinwire.training.unfinished import Learnt, Once
from thinwire.weights.load import LoadedModel

RIDGE = 0.01  # of the variance of a regressor
TRUST = 0.9  # of how errors are counted, the part by a metric of the model's; the rest is by variance
LAYERS_ASKED = 10  # layers, evenly spread, for which the shared token features are chosen


def embed_history(
    model: LoadedModel, history_nH: Int[np.ndarray, "n H"], position_n: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n HM"]:
    """What enters layer 0 at each row's token and the ones before it, normalised; zeros before the first (id −1)."""
    family, params = FAMILIES[model.family], {k: v for k, v in model.params.items() if k != "layers"}
    embed = jax.jit(lambda params, ids, at: family.embed(params, model.config, ids, at))
    columns = []
    for back, ids_n in enumerate(history_nH.T):
        x_nM = np.asarray(embed(params, np.maximum(ids_n, 0), np.maximum(position_n - back, 0)), np.float32)
        x_nM = x_nM / np.sqrt((x_nM**2).mean(axis=-1, keepdims=True) + np.float32(1e-6))
        columns.append(np.where(ids_n[:, None] >= 0, x_nM, np.float32(0)))
    return np.concatenate(columns, axis=1)


def shared_projection(
    tokens_nF: Float[np.ndarray, "n F"], rows_LnD: Float[np.ndarray, "L n D"], rank: int
) -> Float[np.ndarray, "F R"]:
    """The ``rank`` combinations of token features that predict all layers' rows best (reduced-rank regression)."""
    mean_F = tokens_nF.mean(axis=0)
    gram_FF = np.asarray(_gram(tokens_nF, tokens_nF)) - len(tokens_nF) * np.outer(mean_F, mean_F)
    gram_FF += RIDGE * np.trace(gram_FF) / len(gram_FF) * np.eye(len(gram_FF), dtype=np.float32)
    white_FF = np.linalg.inv(np.linalg.cholesky(gram_FF)).astype(np.float32)
    explained_FF = np.zeros_like(white_FF)
    some = slice(1, None, -(-len(rows_LnD) // LAYERS_ASKED))
    for rows_nD in rows_LnD[some]:
        centred_nD = rows_nD - rows_nD.mean(axis=0)
        cross_FD = _gram(tokens_nF, centred_nD / np.sqrt((centred_nD**2).mean()))
        explained_FF += np.asarray(_outer(white_FF, cross_FD))
    _, vectors_FF = np.linalg.eigh(explained_FF)
    project_FR = white_FF.T @ vectors_FF[:, -rank:][:, ::-1]
    return (project_FR * np.sqrt(len(tokens_nF))).astype(np.float32)  # features of about unit variance


def learn_layers(
    key: jax.Array,
    codec: Predictive,
    features_nR: Float[np.ndarray, "n R"],
    rows_LnD: Float[np.ndarray, "L n D"],
    kept_n: Bool[np.ndarray, " n"],
    weights_Ln: Float[np.ndarray, "L n"] | None = None,
    once: Once = lambda name, learn: learn(),
    metric_LDD: Float[np.ndarray, "L D D"] | None = None,
) -> Iterator[tuple[dict[str, np.ndarray], Float[np.ndarray, "h D"]]]:
    """The learnt arrays of one layer after another, and the held-out rows' residuals as they are quantised.

    Where layer 0 is recomputed in use, its arrays do nothing and no rows are quantised; else there is nothing below it.

    Args:
        kept_n: rows to learn from; the others are held out.
        weights_Ln: how much each row's error counts; all alike if None.
        once: keeps what is learnt of a layer, or recalls it.
        metric_LDD: how errors are counted, e as eᵀ M e, by the rotation that looks at it.
    """
    below_nD = np.zeros_like(rows_LnD[0])
    weights_Ln = np.ones(rows_LnD.shape[:2], np.float32) if weights_Ln is None else weights_Ln
    dim = below_nD.shape[1]
    for layer, rows_nD in enumerate(rows_LnD):
        if layer == 0 and codec.recomputes:
            below_nD = rows_nD
            yield _nothing(codec, features_nR.shape[1], dim), np.zeros((0, dim), np.float32)
            continue
        known_nK = np.concatenate([features_nR, codec.below * below_nD], axis=1)
        given = (known_nK[kept_n], rows_nD[kept_n], weights_Ln[layer, kept_n])
        metric_DD = None if metric_LDD is None else metric_LDD[layer]
        learn = functools.partial(_learn_layer, jax.random.fold_in(key, layer), codec, *given, metric_DD)
        params = once(f"layer-{layer}", learn)
        residual_nD = rows_nD - np.asarray(_matmul(known_nK, params["predict"])) - params["bias"]
        rotated_nD = np.asarray(_matmul(residual_nD, params["analysis"]))
        below_nD = np.asarray(_decoded(codec, params, rows_nD, features_nR, below_nD))
        yield params, rotated_nD[~kept_n]


def _learn_layer(key, codec: Predictive, known_nK, rows_nD, weights_n, metric_DD) -> Learnt:
    """Prediction, rotation of what it leaves, and the quantiser of that."""
    predict_KD, bias_D = _ridge(known_nK, rows_nD, weights_n)
    residual_nD = rows_nD - np.asarray(_matmul(known_nK, predict_KD)) - bias_D
    rotation = ROTATIONS[codec.rotate]
    analysis_DD, synthesis_DD = rotation(residual_nD * _root(weights_n), groups(codec.quantiser), metric_DD)
    learnt = quantisers.learn(key, codec.quantiser, np.asarray(_matmul(residual_nD, analysis_DD)), weights_n)
    return {"predict": predict_KD, "bias": bias_D, "analysis": analysis_DD, "synthesis": synthesis_DD, **learnt}


def _nothing(codec: Predictive, features: int, dim: int) -> dict[str, np.ndarray]:
    of_quantiser = jax.eval_shape(lambda: codec.quantiser.init_params(jax.random.key(0), 1, dim))
    return {
        "predict": np.zeros((features + dim, dim), np.float32),
        "bias": np.zeros(dim, np.float32),
        "analysis": np.eye(dim, dtype=np.float32),
        "synthesis": np.eye(dim, dtype=np.float32),
        **{name: np.zeros(shape.shape[1:], np.float32) for name, shape in of_quantiser.items()},
    }


def groups(quantiser: Codec) -> int:
    """Groups that the rotation balances; with one it gives the principal axes in order of variance."""
    return getattr(quantiser, "groups", 1)


def balanced_rotation(
    rows_nD: Float[np.ndarray, "n D"], groups: int, metric_DD: Float[np.ndarray, "D D"] | None = None
) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, "D D"]]:
    """Scaling and rotation that give every group about the same product of variances, and their inverse.

    The two halves of a row (keys and values) are scaled to equal variance; the principal axes of the result are dealt
    to the groups, largest first, each to the group with the smallest product so far that has room. [OPQ, parametric]
    """
    del metric_DD
    scale_D = _by_half(rows_nD)
    rotation_DD = _dealt_axes(rows_nD / scale_D, groups)
    return (rotation_DD / scale_D[:, None]).astype(np.float32), (rotation_DD.T * scale_D).astype(np.float32)


def fisher_rotation(
    rows_nD: Float[np.ndarray, "n D"],
    groups: int,
    metric_DD: Float[np.ndarray, "D D"] | None = None,
    trust: float = TRUST,
) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, "D D"]]:
    """As ``balanced_rotation``, where errors e are counted as eᵀ M e instead of being scaled by half.

    M is ``metric_DD`` and, for the part that is not trusted, the metric of ``balanced_rotation``, both by what they
    make of the rows themselves. Without ``metric_DD``, which only keys and values have, it is ``balanced_rotation``.
    """
    if metric_DD is None:
        return balanced_rotation(rows_nD, groups)
    rows_nD = rows_nD.astype(np.float64)
    covariance_DD = rows_nD.T @ rows_nD / len(rows_nD)
    plain_DD = np.diag(_by_half(rows_nD) ** -2.0)
    share = lambda m_DD: m_DD / max(np.sum(m_DD * covariance_DD), 1e-300)
    mixed_DD = trust * share(metric_DD.astype(np.float64)) + (1 - trust) * share(plain_DD)
    size_D, axes_DD = np.linalg.eigh(mixed_DD)
    root_D = np.sqrt(np.maximum(size_D, 1e-9 * size_D.max()))
    root_DD, back_DD = (axes_DD * root_D) @ axes_DD.T, (axes_DD / root_D) @ axes_DD.T
    rotation_DD = _dealt_axes(rows_nD @ root_DD, groups)
    return (root_DD @ rotation_DD).astype(np.float32), (rotation_DD.T @ back_DD).astype(np.float32)


def _by_half(rows_nD):
    """The root mean square of each half of the rows, for each of its values."""
    half = rows_nD.shape[1] // 2
    parts = (rows_nD[:, :half], rows_nD[:, half:])
    return np.concatenate([np.full(p.shape[1], np.sqrt((p.astype(np.float64) ** 2).mean() + 1e-12)) for p in parts])


def _dealt_axes(scaled_nD, groups: int) -> Float[np.ndarray, "D D"]:
    """Principal axes as columns, dealt to the groups."""
    n, dim = scaled_nD.shape
    scaled_nD = scaled_nD.astype(np.float32)
    variance_D, axes_DD = np.linalg.eigh(np.asarray(_gram(scaled_nD, scaled_nD), np.float64) / n)
    # Relative to the smallest, so that every axis adds to its group: with negative logarithms one group would get all.
    log_D = np.log(np.maximum(variance_D, 1e-12) / max(variance_D.min(), 1e-12))
    logs, room = np.zeros(groups), np.full(groups, dim // groups)
    members: list[list[int]] = [[] for _ in range(groups)]
    for axis in np.argsort(-variance_D):
        group = np.argmin(np.where(room > 0, logs, np.inf))
        members[group].append(axis)
        room[group] -= 1
        logs[group] += log_D[axis]
    return axes_DD[:, [axis for group in members for axis in group]]


def _apart(rows_nD, groups, metric_DD):
    """As ``balanced_rotation``, of keys and of values each for themselves, with half of the groups each."""
    del metric_DD
    half = rows_nD.shape[1] // 2
    parts = [balanced_rotation(rows, max(1, groups // 2)) for rows in (rows_nD[:, :half], rows_nD[:, half:])]
    whole = lambda a, b: np.block([[a, np.zeros_like(b)], [np.zeros_like(a), b]])
    return whole(parts[0][0], parts[1][0]), whole(parts[0][1], parts[1][1])


def _none(rows_nD, groups, metric_DD):
    """No rotation."""
    del groups, metric_DD
    return (np.eye(rows_nD.shape[1], dtype=np.float32),) * 2


ROTATIONS = {"joint": balanced_rotation, "fisher": fisher_rotation, "apart": _apart, "none": _none}


def _root(weights_n):
    return np.sqrt(weights_n / weights_n.mean())[:, None]


def _ridge(known_nK, rows_nD, weights_n):
    mean_K, mean_D = (np.average(x, axis=0, weights=weights_n).astype(np.float32) for x in (known_nK, rows_nD))
    centred_nK, centred_nD = (known_nK - mean_K) * _root(weights_n), (rows_nD - mean_D) * _root(weights_n)
    gram_KK = np.asarray(_gram(centred_nK, centred_nK), np.float64)
    # Regressors differ in size, so each is held back in proportion to its own variance; one without any is not used.
    gram_KK += np.diag(np.where(np.diag(gram_KK) > 0, RIDGE * np.diag(gram_KK), 1.0))
    predict_KD = np.linalg.solve(gram_KK, np.asarray(_gram(centred_nK, centred_nD), np.float64)).astype(np.float32)
    return predict_KD, (mean_D - mean_K @ predict_KD).astype(np.float32)


@jax.jit
def _gram(a, b):
    return a.T @ b


@jax.jit
def _outer(white_FF, cross_FD):
    explained_FD = white_FF @ cross_FD
    return explained_FD @ explained_FD.T


@jax.jit
def _matmul(a, b):
    return a @ b


def _decoded(codec, params, rows_nD, features_nR, below_nD, chunk=1024):
    """The rows as a receiver would have them."""
    step = _step(codec)
    return np.concatenate(
        [
            np.asarray(step(params, rows_nD[a : a + chunk], features_nR[a : a + chunk], below_nD[a : a + chunk]))
            for a in range(0, len(rows_nD), chunk)
        ]
    )


@functools.cache
def _step(codec: Predictive):
    @jax.jit
    def step(params, rows_nD, features_nR, below_nD):
        known = {"features": features_nR, "below": below_nD}
        payload = codec.encode(params, rows_nD, known)
        return codec.decode(params, payload, rows_nD.shape[0], rows_nD.shape[1], known)

    return step
