"""The shape of a GPT-2: everything that decides its arrays, and nothing about how it is run."""

import dataclasses

from thinwire.models.blocks import layer_axes, layer_shapes


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """A pre-LN decoder with learnt positions, biases and GELU; the output head is the embedding, transposed."""

    D: int  # width of the residual stream
    L: int  # layers
    H: int  # heads; divides D
    F: int  # width of the feed-forward layer
    V: int  # vocabulary
    context: int  # positions that were learnt
    norm_eps: float = 1e-5

    family = "gpt2"

    @property
    def d(self) -> int:
        """Width of a head."""
        return self.D // self.H


def param_shapes(config: GPT2Config) -> dict:
    """The tree of array shapes; every array of ``layers`` has a leading axis of L."""
    c = config
    return {
        "embed": (c.V, c.D),
        "positions": (c.context, c.D),
        "layers": layer_shapes(c.L, c.D, c.H, c.F),
        "final_norm": (c.D,),
        "final_norm_bias": (c.D,),
    }


def param_axes(config: GPT2Config) -> dict:
    """The same tree with the meaning of each axis, by which strategies shard without knowing the model."""
    del config
    return {
        "embed": ("vocab", "width"),
        "positions": ("position", "width"),
        "layers": layer_axes(),
        "final_norm": ("width",),
        "final_norm_bias": ("width",),
    }
