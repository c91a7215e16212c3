"""What Hugging Face's files of vision Transformers say: ``vit`` and ``dinov2``, with or without ViT's classifier."""

from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.vit_config import ViTConfig
from thinwire.weights.assemble import Axes, Format, Place, linear
from thinwire.weights.settings import Settings, check_positive

_TOP = {
    "patch_bias": "embeddings.patch_embeddings.projection.bias",
    "final_norm": "layernorm.weight",
    "final_norm_bias": "layernorm.bias",
    "head": "classifier.weight",
    "head_bias": "classifier.bias",
}
_ATTENTION = {
    "wq": "attention.attention.query",
    "wk": "attention.attention.key",
    "wv": "attention.attention.value",
    "wo": "attention.output.dense",
}
_VIT = {
    **_ATTENTION,
    "attn_norm": "layernorm_before",
    "mlp_norm": "layernorm_after",
    "w_up": "intermediate.dense",
    "w_down": "output.dense",
}
_DINOV2 = {**_ATTENTION, "attn_norm": "norm1", "mlp_norm": "norm2", "w_up": "mlp.fc1", "w_down": "mlp.fc2"}
_SCALES = {"attn_scale": "encoder.layer.{}.layer_scale1.lambda1", "mlp_scale": "encoder.layer.{}.layer_scale2.lambda1"}


def vit_config_from_json(raw: dict[str, Any], where: Path) -> ViTConfig:
    """The configuration that a ``config.json`` means, with the defaults of Hugging Face's classes.

    Raises:
        ThinwireError: an unsupported variant, or settings missing, impossible or of the wrong type.
    """
    dinov2 = raw.get("model_type") == "dinov2"
    settings = Settings(raw, where)
    settings.only("hidden_act", "gelu")
    settings.only("qkv_bias", True)
    settings.only("use_swiglu_ffn", False)
    classifies = any("ForImageClassification" in str(name) for name in raw.get("architectures") or [])
    if dinov2 and classifies:
        raise ThinwireError(f"{where} is of a DINOv2 with a classifier, and only the model without one is supported")
    width, heads = settings.integer("hidden_size", 768), settings.integer("num_attention_heads", 12)
    patch, image = settings.integer("patch_size", 14 if dinov2 else 16), settings.integer("image_size", 224)
    hidden = settings.integer("mlp_ratio", 4) * width if dinov2 else settings.integer("intermediate_size", 3072)
    check_positive(where, {"width": width, "count of heads": heads, "width of a patch": patch})
    if width % heads:
        raise ThinwireError(f"{where} gives a width of {width}, which its {heads} heads do not divide")
    config = ViTConfig(
        D=width,
        L=settings.integer("num_hidden_layers", 12),
        H=heads,
        F=hidden,
        patch=patch,
        grid=(image // patch, image // patch),
        channels=settings.integer("num_channels", 3),
        norm_eps=settings.number("layer_norm_eps", 1e-6 if dinov2 else 1e-12),
        layer_scale=dinov2,
        classes=_classes(raw, where) if classifies else 0,
    )
    check_positive(
        where,
        {
            "count of layers": config.L,
            "feed-forward width": hidden,
            "count of patches": config.grid[0],
            "count of channels": config.channels,
            "norm epsilon": config.norm_eps,
        },
    )
    return config


def _classes(raw: dict[str, Any], where: Path) -> int:
    labels = raw.get("id2label")
    return len(labels) if isinstance(labels, dict) else Settings(raw, where).integer("num_labels", 2)


def hugging_face_format(config: ViTConfig) -> Format:
    """How Hugging Face's files hold one; a pooler and the token that masks patches in training do not matter."""

    def known_as(name: str) -> str | None:
        name = name.removeprefix("vit.").removeprefix("dinov2.")
        return None if name.startswith("pooler.") or name == "embeddings.mask_token" else name

    def convolution(leaf_PD: np.ndarray, axes: Axes) -> np.ndarray:
        del axes
        return leaf_PD.reshape(config.channels, config.patch, config.patch, -1).transpose(3, 0, 1, 2)

    places = {
        "patch": Place("embeddings.patch_embeddings.projection.weight", convolution),
        "class_token": Place("embeddings.cls_token", lambda leaf_D, axes: leaf_D[None, None]),
        "positions": Place("embeddings.position_embeddings", lambda leaf_TD, axes: leaf_TD[None]),
    }
    names = dict(_TOP)
    for leaf, module in (_DINOV2 if config.layer_scale else _VIT).items():
        bias = f"{leaf}_bias" if leaf.endswith("norm") else f"b{leaf[1:]}"
        names |= {leaf: f"encoder.layer.{{}}.{module}.weight", bias: f"encoder.layer.{{}}.{module}.bias"}
    places |= {leaf: Place(name, linear) for leaf, name in (names | _SCALES).items()}
    return Format("DINOv2" if config.layer_scale else "ViT", places, known_as)
