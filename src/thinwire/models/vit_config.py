"""The shape of a vision Transformer: everything that decides its arrays, and nothing about how it is run."""

import dataclasses

from thinwire.models import vit_stem
from thinwire.models.blocks import layer_axes, layer_shapes


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """An encoder of patches behind a class token: pre-LN, biases, learnt positions; LayerScale in DINOv2."""

    D: int  # width of the residual stream
    L: int  # layers
    H: int  # heads; divides D
    F: int  # width of the feed-forward layer
    patch: int  # side of a patch in pixels
    grid: tuple[int, int]  # rows and columns of patches that there are positions for
    channels: int = 3
    norm_eps: float = 1e-12
    layer_scale: bool = False  # a learnt factor on each value of what a sublayer adds
    classes: int = 0  # of the head on the class token; 0 for none
    stem: int = 0  # channels of the first of two convolutions before the embedding; 0 for none

    family = "vit"

    @property
    def d(self) -> int:
        """Width of a head."""
        return self.D // self.H

    @property
    def tokens(self) -> int:
        """Tokens of an image: the class token, then the patches row by row."""
        return 1 + self.grid[0] * self.grid[1]

    @property
    def values(self) -> int:
        """Values of a patch, or of the window around it: by channel, then row, then column."""
        return self.channels * self.window**2

    @property
    def margin(self) -> int:
        """Pixels around a patch that are read with it."""
        return vit_stem.margin(self.stem)

    @property
    def window(self) -> int:
        """Side of what is read of a patch, in pixels."""
        return self.patch + 2 * self.margin

    @property
    def embedded(self) -> int:
        """Values of a token that the embedding projects."""
        return 2 * self.stem * vit_stem.cells(self.window) ** 2 if self.stem else self.values


_TOP = {
    "patch": ("values", "width"),
    "patch_bias": ("width",),
    "class_token": ("width",),
    "positions": ("position", "width"),
    "final_norm": ("width",),
    "final_norm_bias": ("width",),
}
_HEAD = {"head": ("width", "classes"), "head_bias": ("classes",)}
_SCALES = ("attn_scale", "mlp_scale")


def param_shapes(config: ViTConfig) -> dict:
    """The tree of array shapes; every array of ``layers`` has a leading axis of L."""
    c = config
    sizes = {"values": c.embedded, "width": c.D, "position": c.tokens, "classes": c.classes}
    top = {name: tuple(sizes[axis] for axis in axes) for name, axes in _top(c).items()}
    stem = vit_stem.shapes(c.stem, c.channels) if c.stem else {}
    scales = dict.fromkeys(_SCALES, (c.L, c.D)) if c.layer_scale else {}
    return {**top, **stem, "layers": {**layer_shapes(c.L, c.D, c.H, c.F), **scales}}


def param_axes(config: ViTConfig) -> dict:
    """The same tree with the meaning of each axis, by which strategies shard without knowing the model."""
    scales = dict.fromkeys(_SCALES, ("layer", "width")) if config.layer_scale else {}
    return {**_top(config), **(vit_stem.AXES if config.stem else {}), "layers": {**layer_axes(), **scales}}


def _top(config: ViTConfig) -> dict[str, tuple[str, ...]]:
    return _TOP | _HEAD if config.classes else _TOP
