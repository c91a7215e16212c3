"""Read a Hugging Face ``config.json`` of a Llama, refusing what our Llama would compute differently."""

from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig, RopeScaling


def llama_config_from_json(raw: dict[str, Any], where: Path) -> LlamaConfig:
    """The configuration that a ``config.json`` means, with the defaults of Hugging Face's ``LlamaConfig``.

    Args:
        raw: the file's contents.
        where: the file, for messages.

    Raises:
        ThinwireError: another model, an unsupported variant, or settings missing or of the wrong type.
    """
    if raw.get("model_type") != "llama":
        raise ThinwireError(f"{where} is of a model of type {raw.get('model_type')!r}, and only 'llama' is supported")
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise ThinwireError(f"{where} sets {key}, and a Llama with biases is not supported")
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ThinwireError(f"{where} sets hidden_act to {raw['hidden_act']!r}, and only 'silu' is supported")
    if raw.get("quantization_config"):
        raise ThinwireError(f"{where} is of quantised weights, which are read from GGUF files only")
    settings = _Settings(raw, where)
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    if heads < 1:
        raise ThinwireError(f"{where} gives {heads} query heads: the file is damaged")
    if raw.get("head_dim") is None and width % heads:
        raise ThinwireError(f"{where} gives a width of {width}, which its {heads} heads do not divide")
    context = settings.integer("max_position_embeddings", 2048)
    theta, scaling = _rope(raw, context, where)
    return LlamaConfig(
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


class _Settings:
    """Typed look-ups in one JSON object; null counts as absent."""

    def __init__(self, raw: dict[str, Any], where: Path):
        self._raw, self._where = raw, where

    def number(self, key: str, default: float | int | None = None) -> float:
        value = self._raw.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ThinwireError(f"{self._where} needs a number for {key}, and has {value!r}")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if value % 1:
            raise ThinwireError(f"{self._where} needs a whole number for {key}, and has {value!r}")
        return int(value)


def _rope(raw: dict[str, Any], context: int, where: Path) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from ``rope_parameters`` (transformers 5) or ``rope_theta`` and ``rope_scaling``."""
    table = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(table, dict):
        raise ThinwireError(f"{where} describes its rotary positions by {table!r}, which is no table")
    settings = _Settings(table, where)
    theta = settings.number("rope_theta", _Settings(raw, where).number("rope_theta", 10000.0))
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
