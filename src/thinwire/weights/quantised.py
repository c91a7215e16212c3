"""Fake quantisation of weights: rounded to integers of 8 or 4 bits and back, to see what that costs in quality.

Round to nearest, symmetric, after training, no data looked at. Arrays stay float32, so nothing becomes smaller or
faster here; ``size_bits`` says what an implementation with real integers would hold.
"""

import dataclasses
import hashlib
import math
from typing import Any

import jax
import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.weights.load import LoadedModel

GROUP = 32
SCALE_BITS = 16
ENDS_BITS = 8
# The axes of matrices beside the model's width; arrays of other axes (norms, biases, positions) are left as they are.
_MATRIX_AXES = {"heads", "kv_heads", "head", "hidden", "vocab", "values", "classes"}


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """Integers that share a scale.

    Attributes:
        bits: of an integer in the layers, 2 to 8: −(2^(bits−1) − 1) to 2^(bits−1) − 1. Embeddings and heads always
            have 8, and a scale for each row or channel, as few files of quantised models go lower there.
        group: inputs of an output channel that share a float16 scale; 0: all of them.

    Raises:
        ThinwireError: a value is out of range.
    """

    bits: int = 8
    group: int = 0

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise ThinwireError(f"weights of {self.bits} bits are not known; use 2 to 8.")
        if self.group < 0:
            raise ThinwireError(f"a group of {self.group} weights has no scale; use 0 for whole channels, or more.")

    def at(self, names: tuple[str, ...]) -> "WeightFormat":
        """The format of an array with these axes."""
        return self if "layer" in names else WeightFormat(ENDS_BITS)

    @property
    def name(self) -> str:
        """Such as ``int8`` or ``int4:group=32``."""
        return f"int{self.bits}" + (f":group={self.group}" if self.group else "")


# 8 bits by output channel, 4 bits by groups of 32, as usual.
FORMATS = {8: WeightFormat(8), 4: WeightFormat(4, GROUP)}


def quantised(model: LoadedModel, form: WeightFormat) -> LoadedModel:
    """The model with its matrices rounded, under a name and a hash of its own: caches never take it for the other."""
    axes = FAMILIES[model.family].param_axes(model.config)
    params = _with_axes(lambda x, names: _rounded(np.asarray(x, np.float32), names, form.at(names)), model.params, axes)
    sha256 = hashlib.sha256(f"{model.sha256} weights {form.name}".encode()).hexdigest()
    return dataclasses.replace(model, name=f"{model.name}, {form.name} weights", params=params, sha256=sha256)


def size_bits(model: LoadedModel, form: WeightFormat | None) -> int:
    """Bits of all weights: of a format, with its scales and the rest in float16; None: all float32."""
    axes = FAMILIES[model.family].param_axes(model.config)

    def of(x, names) -> int:
        if form is None:
            return 32 * x.size
        if not _is_matrix(names):
            return 16 * x.size
        own, rows = form.at(names), math.prod(x.shape[axis] for axis in _inputs(names))
        scales = x.size // rows * (-(-rows // own.group) if own.group else 1)
        return own.bits * x.size + SCALE_BITS * scales

    return sum(jax.tree.leaves(_with_axes(of, model.params, axes)))


def _with_axes(function, params: Any, axes: Any) -> Any:
    is_names = lambda leaf: isinstance(leaf, tuple)
    return jax.tree.map(lambda names, x: function(x, names), axes, params, is_leaf=is_names)


def _is_matrix(names: tuple[str, ...]) -> bool:
    own = [name for name in names if name != "layer"]
    return "width" in own and len(own) > 1 and set(own) - {"width"} <= _MATRIX_AXES


def _inputs(names: tuple[str, ...]) -> list[int]:
    """The axes of a matrix that are summed over: those before the width it leads to, or the width it comes from.

    An embedding is a head, too, in models that share the two: its inputs are the width.
    """
    own = [axis for axis, name in enumerate(names) if name != "layer"]
    if names[own[0]] == "width":
        return own[:1]
    return own[1:] if names[own[0]] == "vocab" else own[:-1]


def _rounded(x: np.ndarray, names: tuple[str, ...], form: WeightFormat) -> np.ndarray:
    """The array with every channel's weights on the levels of its scales."""
    if not _is_matrix(names):
        return x
    inputs = _inputs(names)
    outputs = [axis for axis in range(x.ndim) if axis not in inputs]
    turned = np.transpose(x, [*outputs, *inputs])
    rows_OI = turned.reshape(math.prod(x.shape[axis] for axis in outputs), -1)
    count = rows_OI.shape[1]
    group = form.group or count
    short = -count % group
    groups_OGg = np.pad(rows_OI, ((0, 0), (0, short))).reshape(len(rows_OI), -1, group)
    top = 2 ** (form.bits - 1) - 1
    # Scales are what would be stored: float16.
    scale_OG1 = (np.abs(groups_OGg).max(axis=2, keepdims=True) / top).astype(np.float16).astype(np.float32)
    divisor_OG1 = np.where(scale_OG1 > 0, scale_OG1, np.float32(1))
    levels_OGg = np.clip(np.round(groups_OGg / divisor_OG1), -top, top)
    back_OI = (levels_OGg * scale_OG1).reshape(len(rows_OI), -1)[:, :count]
    back = back_OI.reshape(turned.shape)
    return np.ascontiguousarray(np.transpose(back, np.argsort([*outputs, *inputs]))).astype(np.float32)
