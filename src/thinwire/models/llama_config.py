"""The shape of a Llama: everything that decides its arrays, and nothing about how it is run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """The frequency-dependent stretching of rotary positions that Llama 3.1 and later use."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """A decoder with grouped queries, rotary positions, RMSNorm and SwiGLU."""

    D: int  # width of the residual stream
    L: int  # layers
    H: int  # query heads
    K: int  # key/value heads; divides H
    d: int  # width of a head
    F: int  # width of the feed-forward layer
    V: int  # vocabulary
    context: int  # longest sequence the model was trained for
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True  # the output head is the embedding, transposed
    rope_scaling: RopeScaling | None = None

    family = "llama"


def param_shapes(config: LlamaConfig) -> dict:
    """The tree of array shapes; every array of ``layers`` has a leading axis of L."""
    c = config
    layers = {
        "attn_norm": (c.L, c.D),
        "wq": (c.L, c.D, c.H, c.d),
        "wk": (c.L, c.D, c.K, c.d),
        "wv": (c.L, c.D, c.K, c.d),
        "wo": (c.L, c.H, c.d, c.D),
        "mlp_norm": (c.L, c.D),
        "w_gate": (c.L, c.D, c.F),
        "w_up": (c.L, c.D, c.F),
        "w_down": (c.L, c.F, c.D),
    }
    tree = {"embed": (c.V, c.D), "layers": layers, "final_norm": (c.D,)}
    return tree if c.tied else {**tree, "head": (c.D, c.V)}


def param_axes(config: LlamaConfig) -> dict:
    """The same tree with the meaning of each axis, by which strategies shard without knowing the model."""
    layers = {
        "attn_norm": ("layer", "width"),
        "wq": ("layer", "width", "heads", "head"),
        "wk": ("layer", "width", "kv_heads", "head"),
        "wv": ("layer", "width", "kv_heads", "head"),
        "wo": ("layer", "heads", "head", "width"),
        "mlp_norm": ("layer", "width"),
        "w_gate": ("layer", "width", "hidden"),
        "w_up": ("layer", "width", "hidden"),
        "w_down": ("layer", "hidden", "width"),
    }
    tree = {"embed": ("vocab", "width"), "layers": layers, "final_norm": ("width",)}
    return tree if config.tied else {**tree, "head": ("width", "vocab")}
