"""The shape of a BERT: everything that decides its arrays, and nothing about how it is run."""

import dataclasses

from thinwire.models.blocks import layer_axes, layer_shapes


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """A post-LN encoder of text with learnt positions, biases and GELU."""

    D: int  # width of the residual stream
    L: int  # layers
    H: int  # heads; divides D
    F: int  # width of the feed-forward layer
    V: int  # vocabulary
    context: int  # positions that were learnt
    types: int = 2  # kinds of segments; all text here is of kind 0
    norm_eps: float = 1e-12

    family = "bert"

    @property
    def d(self) -> int:
        """Width of a head."""
        return self.D // self.H


def param_shapes(config: BertConfig) -> dict:
    """The tree of array shapes; every array of ``layers`` has a leading axis of L."""
    c = config
    return {
        "embed": (c.V, c.D),
        "positions": (c.context, c.D),
        "types": (c.types, c.D),
        "embed_norm": (c.D,),
        "embed_norm_bias": (c.D,),
        "layers": layer_shapes(c.L, c.D, c.H, c.F),
    }


def param_axes(config: BertConfig) -> dict:
    """The same tree with the meaning of each axis, by which strategies shard without knowing the model."""
    del config
    return {
        "embed": ("vocab", "width"),
        "positions": ("position", "width"),
        "types": ("type", "width"),
        "embed_norm": ("width",),
        "embed_norm_bias": ("width",),
        "layers": layer_axes(),
    }
