"""BERT in Hugging Face's files: its ``config.json`` and the names of its tensors."""

import re
from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.bert_config import BertConfig
from thinwire.weights.assemble import Format, Place, same
from thinwire.weights.settings import Settings, check_positive


def config_from_json(raw: dict[str, Any], where: Path) -> BertConfig:
    """The configuration that a ``config.json`` means, with the defaults of Hugging Face's ``BertConfig``.

    Raises:
        ThinwireError: an unsupported variant, or settings missing, impossible or of the wrong type.
    """
    settings = Settings(raw, where)
    settings.only("hidden_act", "gelu")
    settings.only("position_embedding_type", "absolute")
    settings.only("is_decoder", False)
    settings.only("add_cross_attention", False)
    width, heads = settings.integer("hidden_size", 768), settings.integer("num_attention_heads", 12)
    config = BertConfig(
        D=width,
        L=settings.integer("num_hidden_layers", 12),
        H=heads,
        F=settings.integer("intermediate_size", 3072),
        V=settings.integer("vocab_size", 30522),
        context=settings.integer("max_position_embeddings", 512),
        types=settings.integer("type_vocab_size", 2),
        norm_eps=settings.number("layer_norm_eps", 1e-12),
    )
    check_positive(where, {
        "width": width, "count of layers": config.L, "count of heads": heads, "feed-forward width": config.F,
        "vocabulary": config.V, "context": config.context, "count of segment types": config.types,
        "norm epsilon": config.norm_eps,
    })  # fmt: skip
    if width % heads:
        raise ThinwireError(f"{where} gives a width of {width}, which its {heads} heads do not divide")
    return config


# Heads of pre-training and of tasks, and buffers: what is behind or beside the encoder.
_BESIDE = re.compile(r"(pooler|cls|classifier|qa_outputs)\..*|embeddings\.(position_ids|token_type_ids)")


def known_as(name: str) -> str | None:
    """A tensor's name without the prefix that models with a head put before it; None for what is not the encoder."""
    name = name.removeprefix("bert.")
    if _BESIDE.fullmatch(name):
        return None
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def hugging_face_format(config: BertConfig) -> Format:
    """How Hugging Face's files hold a BERT."""
    del config
    layer = "encoder.layer.{}."
    places = {
        "embed": Place("embeddings.word_embeddings.weight", same),
        "positions": Place("embeddings.position_embeddings.weight", same),
        "types": Place("embeddings.token_type_embeddings.weight", same),
        "embed_norm": Place("embeddings.LayerNorm.weight"),
        "embed_norm_bias": Place("embeddings.LayerNorm.bias"),
        "attn_norm": Place(f"{layer}attention.output.LayerNorm.weight"),
        "attn_norm_bias": Place(f"{layer}attention.output.LayerNorm.bias"),
        "mlp_norm": Place(f"{layer}output.LayerNorm.weight"),
        "mlp_norm_bias": Place(f"{layer}output.LayerNorm.bias"),
    }
    matrices = {
        ("wq", "bq"): "attention.self.query",
        ("wk", "bk"): "attention.self.key",
        ("wv", "bv"): "attention.self.value",
        ("wo", "bo"): "attention.output.dense",
        ("w_up", "b_up"): "intermediate.dense",
        ("w_down", "b_down"): "output.dense",
    }
    for (weight, bias), name in matrices.items():
        places[weight], places[bias] = Place(f"{layer}{name}.weight"), Place(f"{layer}{name}.bias")
    return Format("BERT", places, known_as)
