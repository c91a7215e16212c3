"""The shape of a vision Transformer: everything that decides its arrays, and nothing about how it is run."""

import dataclasses


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
        """Values of a patch: by channel, then row, then column."""
        return self.channels * self.patch**2


def param_shapes(config: ViTConfig) -> dict:
    """The tree of array shapes; every array of ``layers`` has a leading axis of L."""
    return _tree(config, {name: shape for name, (shape, _) in _top(config).items()}, 0)


def param_axes(config: ViTConfig) -> dict:
    """The same tree with the meaning of each axis, by which strategies shard without knowing the model."""
    return _tree(config, {name: axes for name, (_, axes) in _top(config).items()}, 1)


def _tree(config: ViTConfig, top: dict, which: int) -> dict:
    lead = ((config.L,), ("layer",))[which]
    layers = {name: lead + both[which] for name, both in _layer(config).items()}
    return {**top, "layers": layers}


def _top(c: ViTConfig) -> dict[str, tuple[tuple, tuple]]:
    arrays = {
        "patch": ((c.values, c.D), ("values", "width")),
        "patch_bias": ((c.D,), ("width",)),
        "class_token": ((c.D,), ("width",)),
        "positions": ((c.tokens, c.D), ("position", "width")),
        "final_norm": ((c.D,), ("width",)),
        "final_norm_bias": ((c.D,), ("width",)),
    }
    head = {"head": ((c.D, c.classes), ("width", "classes")), "head_bias": ((c.classes,), ("classes",))}
    return {**arrays, **(head if c.classes else {})}


def _layer(c: ViTConfig) -> dict[str, tuple[tuple, tuple]]:
    arrays = {
        "attn_norm": ((c.D,), ("width",)),
        "attn_norm_bias": ((c.D,), ("width",)),
        "wq": ((c.D, c.H, c.d), ("width", "heads", "head")),
        "wq_bias": ((c.H, c.d), ("heads", "head")),
        "wk": ((c.D, c.H, c.d), ("width", "kv_heads", "head")),
        "wk_bias": ((c.H, c.d), ("kv_heads", "head")),
        "wv": ((c.D, c.H, c.d), ("width", "kv_heads", "head")),
        "wv_bias": ((c.H, c.d), ("kv_heads", "head")),
        "wo": ((c.H, c.d, c.D), ("heads", "head", "width")),
        "wo_bias": ((c.D,), ("width",)),
        "mlp_norm": ((c.D,), ("width",)),
        "mlp_norm_bias": ((c.D,), ("width",)),
        "w_up": ((c.D, c.F), ("width", "hidden")),
        "w_up_bias": ((c.F,), ("hidden",)),
        "w_down": ((c.F, c.D), ("hidden", "width")),
        "w_down_bias": ((c.D,), ("width",)),
    }
    scales = {"attn_scale": ((c.D,), ("width",)), "mlp_scale": ((c.D,), ("width",))}
    return {**arrays, **(scales if c.layer_scale else {})}
