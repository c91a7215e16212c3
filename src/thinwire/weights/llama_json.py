"""Read a Hugging Face ``config.json`` of a Llama, refusing what our Llama would compute differently."""

from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig, RopeScaling
from thinwire.weights.settings import Settings, check_positive


def llama_config_from_json(raw: dict[str, Any], where: Path) -> LlamaConfig:
    """The configuration that a ``config.json`` means, with the defaults of Hugging Face's ``LlamaConfig``.

    Args:
        raw: the file's contents.
        where: the file, for messages.

    Raises:
        ThinwireError: an unsupported variant, or settings missing, impossible or of the wrong type.
    """
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise ThinwireError(f"{where} sets {key}, and a Llama with biases is not supported")
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ThinwireError(f"{where} sets hidden_act to {raw['hidden_act']!r}, and only 'silu' is supported")
    settings = Settings(raw, where)
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    if heads < 1:
        raise ThinwireError(f"{where} gives {heads} query heads: the file is damaged")
    if raw.get("head_dim") is None and width % heads:
        raise ThinwireError(f"{where} gives a width of {width}, which its {heads} heads do not divide")
    context = settings.integer("max_position_embeddings", 2048)
    theta, scaling = _rope(raw, context, where)
    config = LlamaConfig(
        D=width,
        L=settings.integer("num_hidden_layers"),
        H=heads,
        K=settings.integer("num_key_value_heads", heads),
        d=settings.integer("head_dim", width // heads),
        F=settings.integer("intermediate_size"),
        V=settings.integer("vocab_size"),
        context=context,
        rope_theta=theta,
        norm_eps=settings.number("rms_norm_eps", 1e-6),
        tied=bool(raw.get("tie_word_embeddings", False)),
        rope_scaling=scaling,
    )
    return check_llama(config, where)


def check_llama(config: LlamaConfig, where: Path) -> LlamaConfig:
    """The configuration, if a Llama can have it.

    Raises:
        ThinwireError: a size is not positive, heads do not group, or a head has odd width.
    """
    c = config
    check_positive(where, {
        "width": c.D, "count of layers": c.L, "count of heads": c.H, "count of key/value heads": c.K,
        "width of a head": c.d, "feed-forward width": c.F, "vocabulary": c.V, "context": c.context,
        "rotary base": c.rope_theta, "norm epsilon": c.norm_eps,
    })  # fmt: skip
    if c.H % c.K:
        raise ThinwireError(f"{where} gives {c.H} query heads, which {c.K} key/value heads do not divide")
    if c.d % 2:
        raise ThinwireError(f"{where} gives heads of odd width {c.d}, which cannot be rotated in pairs")
    return c


def _rope(raw: dict[str, Any], context: int, where: Path) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from ``rope_parameters`` (transformers 5) or ``rope_theta`` and ``rope_scaling``."""
    table = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(table, dict):
        raise ThinwireError(f"{where} describes its rotary positions by {table!r}, which is no table")
    settings = Settings(table, where)
    theta = settings.number("rope_theta", Settings(raw, where).number("rope_theta", 10000.0))
    for source in (raw, table):
        if source.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise ThinwireError(f"{where} rotates only part of each head (partial_rotary_factor): not supported")
    kind = table.get("rope_type", table.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ThinwireError(f"{where} scales rotary positions by {kind!r}; only 'default' and 'llama3' are supported")
    scaling = RopeScaling(
        factor=settings.number("factor"),
        low_freq_factor=settings.number("low_freq_factor"),
        high_freq_factor=settings.number("high_freq_factor"),
        original_context=settings.integer("original_max_position_embeddings", context),
    )
    if not (scaling.factor >= 1 and 0 < scaling.low_freq_factor < scaling.high_freq_factor):
        raise ThinwireError(f"{where} has impossible factors for rotary scaling: {table}")
    return theta, scaling
