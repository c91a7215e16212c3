"""Rotations of what a prediction leaves of rows: how errors count, and which axes make up a quantiser's groups."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from thinwire.training.quantisers import gram

TRUST = 0.9  # of how errors are counted, the part by a metric of the model's; the rest is by variance


class Metric(NamedTuple):
    """How errors e are counted, eᵀ M e: a symmetric root of M, and its inverse."""

    root_DD: Float[np.ndarray, "D D"]
    back_DD: Float[np.ndarray, "D D"]


class Rotation(NamedTuple):
    """To the axes that are coded, and back."""

    analysis_DA: Float[np.ndarray, "D A"]
    synthesis_AD: Float[np.ndarray, "A D"]


def by_half(rows_nD: Float[np.ndarray, "n D"]) -> Metric:
    """The two halves of a row (keys and values) scaled to equal variance."""
    half = rows_nD.shape[1] // 2
    parts = (rows_nD[:, :half], rows_nD[:, half:])
    scale_D = np.concatenate([np.full(p.shape[1], np.sqrt((p.astype(np.float64) ** 2).mean() + 1e-12)) for p in parts])
    return Metric(np.diag(1 / scale_D), np.diag(scale_D))


def by_fisher(rows_nD: Float[np.ndarray, "n D"], metric_DD: Float[np.ndarray, "D D"], trust: float = TRUST) -> Metric:
    """``metric_DD``, what the model's predictions feel of errors, and for the part that is not trusted ``by_half``.

    Both count by what they make of the rows themselves.
    """
    rows_nD = rows_nD.astype(np.float64)
    covariance_DD = rows_nD.T @ rows_nD / len(rows_nD)
    share = lambda m_DD: m_DD / max(np.sum(m_DD * covariance_DD), 1e-300)
    mixed_DD = trust * share(metric_DD.astype(np.float64)) + (1 - trust) * share(by_half(rows_nD).root_DD ** 2)
    size_D, axes_DD = np.linalg.eigh(mixed_DD)
    root_D = np.sqrt(np.maximum(size_D, 1e-9 * size_D.max()))
    return Metric((axes_DD * root_D) @ axes_DD.T, (axes_DD / root_D) @ axes_DD.T)


def metric_of(rotate: str, rows_nD: Float[np.ndarray, "n D"], metric_DD: Float[np.ndarray, "D D"] | None) -> Metric:
    """The one that a predictive codec's ``rotate`` means: ``by_fisher`` of keys and values, which have a metric."""
    return by_fisher(rows_nD, metric_DD) if rotate == "fisher" and metric_DD is not None else by_half(rows_nD)


def balanced(rows_nD: Float[np.ndarray, "n D"], groups: int, metric: Metric, axes: int = 0) -> Rotation:
    """Scaling by a metric and a rotation that give every group about the same product of variances.

    The principal axes of the scaled rows are dealt to the groups, largest first, each to the group with the smallest
    product so far that has room. [OPQ, parametric]

    Args:
        groups: with one it gives the principal axes in order of variance.
        axes: how many are dealt, those with most variance; 0: all.
    """
    dealt_DA = _dealt_axes(rows_nD @ metric.root_DD, groups, axes or rows_nD.shape[1])
    analysis_DA, synthesis_AD = metric.root_DD @ dealt_DA, dealt_DA.T @ metric.back_DD
    return Rotation(analysis_DA.astype(np.float32), synthesis_AD.astype(np.float32))


def rotation_of(rotate: str, rows_nD: Float[np.ndarray, "n D"], groups: int, metric_DD=None, axes: int = 0) -> Rotation:
    """The one that a predictive codec's ``rotate`` means."""
    dim = rows_nD.shape[1]
    if rotate == "none":
        return Rotation(np.eye(dim, dtype=np.float32), np.eye(dim, dtype=np.float32))
    if rotate == "apart":
        halves = (rows_nD[:, : dim // 2], rows_nD[:, dim // 2 :])
        keys, values = (balanced(half, max(1, groups // 2), by_half(half)) for half in halves)
        return Rotation(*(_blocks(of_keys, of_values) for of_keys, of_values in zip(keys, values, strict=True)))
    return balanced(rows_nD, groups, metric_of(rotate, rows_nD, metric_DD), axes)


def _blocks(a, b):
    return np.block([[a, np.zeros_like(b)], [np.zeros_like(a), b]])


def _dealt_axes(scaled_nD, groups: int, axes: int) -> Float[np.ndarray, "D A"]:
    """Principal axes as columns, dealt to the groups."""
    scaled_nD = scaled_nD.astype(np.float32)
    variance_D, axes_DD = np.linalg.eigh(np.asarray(gram(scaled_nD), np.float64) / len(scaled_nD))
    variance_A, axes_DA = variance_D[-axes:], axes_DD[:, -axes:]
    # Relative to the smallest, so that every axis adds to its group: with negative logarithms one group would get all.
    log_A = np.log(np.maximum(variance_A, 1e-12) / max(variance_A.min(), 1e-12))
    logs, room = np.zeros(groups), np.full(groups, axes // groups)
    members: list[list[int]] = [[] for _ in range(groups)]
    for axis in np.argsort(-variance_A):
        group = np.argmin(np.where(room > 0, logs, np.inf))
        members[group].append(axis)
        room[group] -= 1
        logs[group] += log_A[axis]
    return axes_DA[:, [axis for group in members for axis in group]]
