"""GPT-2 in Hugging Face's files: its ``config.json`` and the names of its tensors."""

import re
from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.gpt2_config import GPT2Config
from thinwire.weights.assemble import Format, Place, in_out, same
from thinwire.weights.settings import Settings, check_positive


def config_from_json(raw: dict[str, Any], where: Path) -> GPT2Config:
    """The configuration that a ``config.json`` means, with the defaults of Hugging Face's ``GPT2Config``.

    Raises:
        ThinwireError: an unsupported variant, or settings missing, impossible or of the wrong type.
    """
    settings = Settings(raw, where)
    settings.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    settings.only("scale_attn_weights", True)
    settings.only("scale_attn_by_inverse_layer_idx", False)
    settings.only("add_cross_attention", False)
    settings.only("tie_word_embeddings", True)
    width, heads = settings.integer("n_embd", 768), settings.integer("n_head", 12)
    config = GPT2Config(
        D=width,
        L=settings.integer("n_layer", 12),
        H=heads,
        F=settings.integer("n_inner", 4 * width),
        V=settings.integer("vocab_size", 50257),
        context=settings.integer("n_positions", 1024),
        norm_eps=settings.number("layer_norm_epsilon", 1e-5),
    )
    check_positive(where, {
        "width": width, "count of layers": config.L, "count of heads": heads, "feed-forward width": config.F,
        "vocabulary": config.V, "context": config.context, "norm epsilon": config.norm_eps,
    })  # fmt: skip
    if width % heads:
        raise ThinwireError(f"{where} gives a width of {width}, which its {heads} heads do not divide")
    return config


_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")  # buffers; the tied head once more


def known_as(name: str) -> str | None:
    """A tensor's name without the prefix that models with a head put before it; None for what follows from others."""
    name = name.removeprefix("transformer.")
    return None if _MASKS.fullmatch(name) else name


def hugging_face_format(config: GPT2Config) -> Format:
    """How Hugging Face's files hold a GPT-2: matrices (in, out), and queries, keys and values side by side in one."""
    del config
    places = {
        "embed": Place("wte.weight", same),
        "positions": Place("wpe.weight", same),
        "attn_norm": Place("h.{}.ln_1.weight"),
        "attn_norm_bias": Place("h.{}.ln_1.bias"),
        "wo": Place("h.{}.attn.c_proj.weight", in_out),
        "bo": Place("h.{}.attn.c_proj.bias"),
        "mlp_norm": Place("h.{}.ln_2.weight"),
        "mlp_norm_bias": Place("h.{}.ln_2.bias"),
        "w_up": Place("h.{}.mlp.c_fc.weight", in_out),
        "b_up": Place("h.{}.mlp.c_fc.bias"),
        "w_down": Place("h.{}.mlp.c_proj.weight", in_out),
        "b_down": Place("h.{}.mlp.c_proj.bias"),
        "final_norm": Place("ln_f.weight"),
        "final_norm_bias": Place("ln_f.bias"),
    }
    for i, which in enumerate("qkv"):
        places[f"w{which}"] = Place("h.{}.attn.c_attn.weight", in_out, part=(i, 3), axis=1)
        places[f"b{which}"] = Place("h.{}.attn.c_attn.bias", part=(i, 3))
    return Format("GPT-2", places, known_as)
