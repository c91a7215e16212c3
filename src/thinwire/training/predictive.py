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
from thinwire.training.coded import there_and_back
from thinwire.training.rotation import Metric, metric_of, rotation_of
from thinwire.training.unfinished import Learnt, Once
from thinwire.weights.load import LoadedModel

RIDGE = 0.01  # of the variance of a regressor
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
    """The ``rank`` combinations of token features that predict all layers' rows best (reduced-rank regression).

    Where there are fewer features than that, the rest are zeros.
    """
    mean_F = tokens_nF.mean(axis=0)
    gram_FF = np.asarray(_cross(tokens_nF, tokens_nF)) - len(tokens_nF) * np.outer(mean_F, mean_F)
    gram_FF += RIDGE * np.trace(gram_FF) / len(gram_FF) * np.eye(len(gram_FF), dtype=np.float32)
    white_FF = np.linalg.inv(np.linalg.cholesky(gram_FF)).astype(np.float32)
    explained_FF = np.zeros_like(white_FF)
    some = slice(1, None, -(-len(rows_LnD) // LAYERS_ASKED))
    for rows_nD in rows_LnD[some]:
        centred_nD = rows_nD - rows_nD.mean(axis=0)
        cross_FD = _cross(tokens_nF, centred_nD / np.sqrt((centred_nD**2).mean()))
        explained_FF += np.asarray(_outer(white_FF, cross_FD))
    _, vectors_FF = np.linalg.eigh(explained_FF)
    project_FR = white_FF.T @ vectors_FF[:, -rank:][:, ::-1]
    project_FR = np.pad(project_FR, ((0, 0), (0, rank - project_FR.shape[1])))
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
            yield _nothing(codec, dim), np.zeros((0, codec.width(dim)), np.float32)
            continue
        known_nK = np.concatenate([features_nR, codec.below * below_nD], axis=1)
        given = (known_nK[kept_n], rows_nD[kept_n], weights_Ln[layer, kept_n])
        metric_DD = None if metric_LDD is None else metric_LDD[layer]
        learn = functools.partial(_learn_layer, jax.random.fold_in(key, layer), codec, *given, metric_DD)
        params = once(f"layer-{layer}", learn)
        below_nD, rotated_nA = _in_chunks(codec, params, rows_nD, features_nR, below_nD)
        yield params, rotated_nA[~kept_n]


def _learn_layer(key, codec: Predictive, known_nK, rows_nD, weights_n, metric_DD) -> Learnt:
    """Prediction, rotation of what it leaves, and the quantiser of that."""
    predict_KD, gram_KK, mean_K, mean_D = _ridge(known_nK, rows_nD, weights_n)
    prediction = {"predict": predict_KD}
    if codec.bottleneck:
        metric = metric_of(codec.rotate, rows_nD * _root(weights_n), metric_DD)
        prediction = _narrowed(predict_KD, gram_KK, metric, codec.bottleneck)
    linear_KD = functools.reduce(np.matmul, prediction.values())
    bias_D = (mean_D - mean_K @ linear_KD).astype(np.float32)
    residual_nD = rows_nD - np.asarray(_matmul(known_nK, linear_KD)) - bias_D
    weighted_nD = residual_nD * _root(weights_n)
    rotation = rotation_of(codec.rotate, weighted_nD, groups(codec.quantiser), metric_DD, codec.width(rows_nD.shape[1]))
    rotated_nA = np.asarray(_matmul(residual_nD, rotation.analysis_DA))
    learnt = quantisers.learn(key, codec.quantiser, rotated_nA, weights_n)
    return {
        **prediction,
        "bias": bias_D,
        "analysis": rotation.analysis_DA,
        "synthesis": rotation.synthesis_AD,
        **learnt,
    }


def _narrowed(predict_KD, gram_KK, metric: Metric, bottleneck: int) -> Learnt:
    """The prediction through ``bottleneck`` numbers that comes closest to it, by a metric (reduced-rank regression)."""
    seen_KD = predict_KD.astype(np.float64) @ metric.root_DD
    _, axes_DD = np.linalg.eigh(seen_KD.T @ gram_KK @ seen_KD)
    kept_DB = axes_DD[:, ::-1][:, :bottleneck]
    predict_KB, expand_BD = seen_KD @ kept_DB, kept_DB.T @ metric.back_DD
    return {"predict": predict_KB.astype(np.float32), "expand": expand_BD.astype(np.float32)}


def _nothing(codec: Predictive, dim: int) -> dict[str, np.ndarray]:
    """Zeros instead of a layer's arrays."""
    shapes = jax.eval_shape(lambda: codec.init_params(jax.random.key(0), 1, dim))
    return {name: np.zeros(shape.shape[1:], np.float32) for name, shape in shapes.items()}


def groups(quantiser: Codec) -> int:
    """Groups that the rotation balances; with one it gives the principal axes in order of variance."""
    return getattr(quantiser, "groups", 1)


def _root(weights_n):
    return np.sqrt(weights_n / weights_n.mean())[:, None]


def _ridge(known_nK, rows_nD, weights_n):
    mean_K, mean_D = (np.average(x, axis=0, weights=weights_n).astype(np.float32) for x in (known_nK, rows_nD))
    centred_nK, centred_nD = (known_nK - mean_K) * _root(weights_n), (rows_nD - mean_D) * _root(weights_n)
    gram_KK = np.asarray(_cross(centred_nK, centred_nK), np.float64)
    # Regressors differ in size, so each is held back in proportion to its own variance; one without any is not used.
    gram_KK += np.diag(np.where(np.diag(gram_KK) > 0, RIDGE * np.diag(gram_KK), 1.0))
    predict_KD = np.linalg.solve(gram_KK, np.asarray(_cross(centred_nK, centred_nD), np.float64)).astype(np.float32)
    return predict_KD, gram_KK, mean_K, mean_D


@jax.jit
def _cross(a, b):
    return a.T @ b


@jax.jit
def _outer(white_FF, cross_FD):
    explained_FD = white_FF @ cross_FD
    return explained_FD @ explained_FD.T


@jax.jit
def _matmul(a, b):
    return a @ b


def _in_chunks(codec, params, rows_nD, features_nR, below_nD, chunk=1024):
    """``there_and_back``, some rows after others."""
    step, starts = _step(codec), range(0, len(rows_nD), chunk)
    pieces = [step(params, *(x[a : a + chunk] for x in (rows_nD, features_nR, below_nD))) for a in starts]
    return tuple(np.concatenate([np.asarray(piece) for piece in column]) for column in zip(*pieces, strict=True))


@functools.cache
def _step(codec: Predictive):
    return jax.jit(
        lambda params, rows_nD, features_nR, below_nD: there_and_back(
            codec, params, rows_nD, {"features": features_nR, "below": below_nD}
        )
    )
