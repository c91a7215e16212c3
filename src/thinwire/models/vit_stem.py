"""Two convolutions before the patch embedding of a vision Transformer that is trained here from scratch.

Learning from few images, a Transformer lacks what convolutions know from the start: that neighbouring pixels belong
together, and that a pattern is the same everywhere (T. Xiao et al., "Early convolutions help Transformers see better",
2021). There the convolutions run over the whole image; here over the window of each patch, which overlaps its
neighbours, so that a token depends on its own row of the input alone and can be put on any device.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

KERNEL, STRIDE, LAYERS = 3, 2, 2
# The meaning of each axis of the weights (values of a field of 3 by 3, channels) and biases.
AXES = {
    "stem_in": ("field", "stem"),
    "stem_in_bias": ("stem",),
    "stem_out": ("field", "stem"),
    "stem_out_bias": ("stem",),
}


def margin(stem: int) -> int:
    """Pixels around a patch that its window has too: half of what a value behind the convolutions sees, and 1."""
    return KERNEL + 1 if stem else 0


def cells(window: int) -> int:
    """The side of what the convolutions leave of a window; 1 at least, with its margin."""
    for _ in range(LAYERS):
        window = (window - KERNEL) // STRIDE + 1
    return window


def shapes(stem: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Of the convolutions' weights and biases."""
    taps = KERNEL**2
    return {
        "stem_in": (taps * channels, stem),
        "stem_in_bias": (stem,),
        "stem_out": (taps * stem, 2 * stem),
        "stem_out_bias": (2 * stem,),
    }


def convolved(
    params: Mapping[str, Array], windows_TP: Float[Array, "T P"], window: int, channels: int
) -> Float[Array, "T S"]:
    """What the convolutions make of each window: its values row by row, channels last."""
    first_PS = _as_matrix(params["stem_in"], window, channels)
    # Pixels come channels first.
    first_PS = first_PS.reshape(window**2, channels, -1).swapaxes(0, 1).reshape(first_PS.shape)
    x_TS = _rectified(windows_TP @ first_PS, params["stem_in_bias"])
    second_SS = _as_matrix(params["stem_out"], (window - KERNEL) // STRIDE + 1, params["stem_in"].shape[1])
    return _rectified(x_TS @ second_SS, params["stem_out_bias"])


def _as_matrix(weight: Array, side: int, channels: int) -> Float[Array, "P S"]:
    """A convolution of windows of this side as the matrix that it is.

    It holds many zeros, and yet one product for all windows is faster than a convolution of each, on a CPU.
    """
    out = (side - KERNEL) // STRIDE + 1
    taken_yYk = np.zeros((side, out, KERNEL), np.float32)
    for Y, k in np.ndindex(out, KERNEL):
        taken_yYk[STRIDE * Y + k, Y, k] = 1
    kernel_klco = weight.reshape(KERNEL, KERNEL, channels, -1)
    taken_yYk = jnp.asarray(taken_yYk, weight.dtype)
    matrix = jnp.einsum("yYk,xXl,klco->yxcYXo", taken_yYk, taken_yYk, kernel_klco)
    return matrix.reshape(side * side * channels, -1)


def _rectified(x_TS: Float[Array, "T S"], bias: Float[Array, " C"]) -> Float[Array, "T S"]:
    return jax.nn.relu(x_TS + jnp.tile(bias, x_TS.shape[1] // bias.shape[0])[None])
