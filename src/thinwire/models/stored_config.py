"""The configuration of a model of any family in JSON's own types, and back."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from thinwire.models.bert_config import BertConfig
from thinwire.models.gpt2_config import GPT2Config
from thinwire.models.llama_config import LlamaConfig
from thinwire.models.vit_config import ViTConfig

CONFIGS: dict[str, Any] = {kind.family: kind for kind in (LlamaConfig, GPT2Config, BertConfig, ViTConfig)}


def config_to_dict(config: Any) -> dict[str, Any]:
    """The fields of a configuration: numbers, booleans, lists and objects."""
    plain = lambda value: list(value) if isinstance(value, tuple) else value
    return {name: plain(value) for name, value in dataclasses.asdict(config).items()}


def config_from_dict(family: str, found: Mapping[str, Any]) -> Any:
    """The configuration that ``config_to_dict`` took apart.

    Raises:
        ValueError: in words, what is wrong with it.
    """
    if family not in CONFIGS:
        raise ValueError(f"there is no family {family!r}, only {', '.join(CONFIGS)}")
    config = _build(CONFIGS[family], found)
    whole, parts = (config.H, config.K) if family == "llama" else (config.D, config.H)
    if whole % parts:
        raise ValueError(f"{parts} heads do not divide {whole}")
    return config


def _build(kind: Any, found: Mapping[str, Any]) -> Any:
    fields, hints = {field.name: field for field in dataclasses.fields(kind)}, typing.get_type_hints(kind)
    for name in found:
        if name not in fields:
            raise ValueError(f"{kind.__name__} has no {name!r}")
    for name, field in fields.items():
        if name not in found and field.default is dataclasses.MISSING:
            raise ValueError(f"{kind.__name__} lacks {name!r}")
    return kind(**{name: _value(name, value, hints[name], fields[name].default) for name, value in found.items()})


def _value(name: str, value: Any, kind: Any, default: Any) -> Any:
    """A field's value, of the type that it has in the configuration; what may be 0 is 0 by default."""
    options = typing.get_args(kind)
    if typing.get_origin(kind) is types.UnionType and value is None:
        return None
    if typing.get_origin(kind) is types.UnionType and isinstance(value, dict):
        return _build(options[0], value)
    if typing.get_origin(kind) is tuple and isinstance(value, list) and len(value) == len(options):
        return tuple(_value(name, one, of, None) for one, of in zip(value, options, strict=True))
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, int | kind) and not isinstance(value, bool) and math.isfinite(value):
        number = kind(value)
        if number > 0 or number == default == 0:
            return number
    raise ValueError(f"{name} is {value!r}")
