"""Learnt positions of a grid of patches, resized once for images of another size; and images cut into patches."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from thinwire.errors import ThinwireError
from thinwire.models.vit_config import ViTConfig

_CUBIC = -0.75  # of Keys' kernel, as PyTorch has it


def patches(image_YXC: Float[np.ndarray, "Y X C"], patch: int, margin: int = 0) -> Float[np.ndarray, "T P"]:
    """An image as the model reads it: a row of zeros in the class token's place, then the patches, row by row.

    The values of a patch go by channel, then row, then column. An edge that fills no patch is cut off. With a margin so
    many pixels around it belong to a patch too, zeros outside of the image.

    Raises:
        ThinwireError: it is no image, or smaller than a patch.
    """
    image_YXC = np.asarray(image_YXC, np.float32)
    if image_YXC.ndim != 3 or min(image_YXC.shape[:2]) < patch:
        raise ThinwireError(
            f"An array of shape {image_YXC.shape} is no image (height, width, channels) of at least one patch of "
            f"{patch} by {patch} pixels."
        )
    rows, columns, channels = image_YXC.shape[0] // patch, image_YXC.shape[1] // patch, image_YXC.shape[2]
    cut = image_YXC[: rows * patch, : columns * patch]
    if margin:
        framed = np.pad(cut, ((margin, margin), (margin, margin), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(framed, (patch + 2 * margin,) * 2, axis=(0, 1))
        values_RYCyx = windows[::patch, ::patch]
    else:
        values_RYCyx = cut.reshape(rows, patch, columns, patch, channels).transpose(0, 2, 4, 1, 3)
    values_TP = values_RYCyx.reshape(rows * columns, -1)
    return np.concatenate([np.zeros((1, values_TP.shape[1]), np.float32), values_TP])


def nearest_grid(count: int) -> tuple[int, int]:
    """The grid of exactly ``count`` patches that is most nearly square; never higher than wide."""
    rows = next(rows for rows in range(int(count**0.5), 0, -1) if count % rows == 0)
    return rows, count // rows


def resized(config: ViTConfig, params: dict[str, Any], grid: tuple[int, int]) -> tuple[ViTConfig, dict[str, Any]]:
    """The model for images of ``grid`` patches: its positions resized, all else shared.

    Bicubic as Hugging Face's DINOv2 has it (``interpolate``, corners not aligned, no antialiasing), in float64. The
    class token keeps its position.
    """
    if grid == config.grid:
        return config, params
    table = np.asarray(params["positions"], np.float64)
    kept, values_YXD = table[:1], table[1:].reshape(*config.grid, config.D)
    down_yY, across_xX = _weights(config.grid[0], grid[0]), _weights(config.grid[1], grid[1])
    new_yxD = np.einsum("yY,xX,YXD->yxD", down_yY, across_xX, values_YXD, optimize=True)
    positions = np.concatenate([kept, new_yxD.reshape(-1, config.D)]).astype(np.float32)
    return dataclasses.replace(config, grid=grid), {**params, "positions": positions}


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """How much each old sample counts for each new one."""
    weights = np.zeros((new, old))
    for i in range(new):
        at = (i + 0.5) * old / new - 0.5
        base = int(np.floor(at))
        for neighbour in range(base - 1, base + 3):
            weights[i, min(max(neighbour, 0), old - 1)] += _keys(abs(at - neighbour))
    return weights


def _keys(x: float) -> float:
    a = _CUBIC
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
