"""The families that Hugging Face's files can hold, by the ``model_type`` of their ``config.json``."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.models.families import Config
from thinwire.weights import bert_hf, gpt2_hf, llama_json, llama_names, vit_names
from thinwire.weights.assemble import Format


@dataclasses.dataclass(frozen=True)
class HuggingFace:
    """What a family's files say."""

    config: Callable[[dict[str, Any], Path], Config]  # of a config.json, refusing what would be computed differently
    format: Callable[[Any], Format]  # of a configuration: what its tensors are called


HUGGING_FACE: dict[str, HuggingFace] = {
    "llama": HuggingFace(llama_json.llama_config_from_json, llama_names.hugging_face_format),
    "gpt2": HuggingFace(gpt2_hf.config_from_json, gpt2_hf.hugging_face_format),
    "bert": HuggingFace(bert_hf.config_from_json, bert_hf.hugging_face_format),
    **dict.fromkeys(("vit", "dinov2"), HuggingFace(vit_names.vit_config_from_json, vit_names.hugging_face_format)),
}


def family_of(raw: dict[str, Any], where: Path) -> HuggingFace:
    """The family of a ``config.json``.

    Raises:
        ThinwireError: there is none for its type, or its weights are quantised.
    """
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in HUGGING_FACE:
        raise ThinwireError(f"{where} is of a model of type {kind!r}; supported are {', '.join(HUGGING_FACE)}")
    if raw.get("quantization_config"):
        raise ThinwireError(f"{where} is of quantised weights, which are read from GGUF files only")
    return HUGGING_FACE[kind]
