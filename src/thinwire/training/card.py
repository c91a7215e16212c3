"""What a trained artefact says of itself; written as readable JSON beside its arrays."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import jax

from thinwire.codebooks.manifest import now, read_record, version
from thinwire.errors import ThinwireError
from thinwire.models.stored_config import config_from_dict
from thinwire.strategies import parse_strategy
from thinwire.training.adapters import LoRA

FORMAT = 1
ADAPTER, WEIGHTS = "adapter", "weights"
BEFORE = "went on from"  # where a card's data tell of an earlier training


@dataclasses.dataclass(frozen=True)
class Card:
    """Where trained arrays come from and what they are for.

    Attributes:
        model: the name of the base model, or of the configuration that was trained from scratch.
        model_sha256: hash of the base model's weights; empty for what was trained from scratch.
        family: the model's family, such as ``llama``.
        config: its configuration, as of ``config_to_dict``.
        strategy: the strategy that it was trained for, as it is written.
        codec: the strategy's codec, as it is written.
        lora: the settings of the adapter; None where whole weights were trained.
        data: what it was trained on: source, sha256, tokens or images, ...
        seed: the seed of the training.
        command: what a user types to train it again.
        figures: what the training found, by name.
        created: when, UTC.
        thinwire: the version that wrote it.
        jax: the version that trained it.
        format: the version of this layout.
        dtype: of the arrays as they are stored.
        sha256: hash of what it makes of the base model: of base, arrays and settings; filled in when saved.
        files: the hash of every file but this one and the README; filled in when saved.
    """

    model: str
    model_sha256: str
    family: str
    config: dict[str, Any]
    strategy: str
    codec: str
    lora: dict[str, Any] | None
    data: dict[str, Any]
    seed: int
    command: str
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = dataclasses.field(default_factory=now)
    thinwire: str = dataclasses.field(default_factory=version)
    jax: str = jax.__version__
    format: int = FORMAT
    dtype: str = "float32"
    sha256: str = ""
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the arrays are: ``adapter`` or ``weights``."""
        return WEIGHTS if self.lora is None else ADAPTER

    @property
    def from_scratch(self) -> bool:
        """Whether there is no base model."""
        return not self.model_sha256

    def to_json(self) -> str:
        """Returns the card as indented JSON."""
        return json.dumps(_plain(dataclasses.asdict(self)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "Card":
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: in words, what is wrong with it.
        """
        found = read_record(Card, FORMAT, text)
        if not all(isinstance(value, str) for value in found["files"].values()):
            raise ValueError("its 'files' are not hashes")
        card = Card(**found)
        config_of(card)
        lora_of(card)
        try:
            if parse_strategy(card.strategy).codec.spec() != card.codec:
                raise ValueError(f"its codec {card.codec} is not that of {card.strategy}")
        except ThinwireError as error:
            raise ValueError(f"its strategy is unknown ({error})") from error
        if card.lora is not None and card.from_scratch:
            raise ValueError("it is an adapter without a base model")
        return card


def _plain(value: Any) -> Any:
    """A value in JSON's own types: a figure that is no number becomes null, arrays lists, paths text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def config_of(card: Card) -> Any:
    """The configuration of the model.

    Raises:
        ValueError: in words, what is wrong with it.
    """
    return config_from_dict(card.family, card.config)


def lora_of(card: Card) -> LoRA | None:
    """The settings of the adapter, if it is one.

    Raises:
        ValueError: in words, what is wrong with them.
    """
    if card.lora is None:
        return None
    rank, alpha, targets = (card.lora.get(name) for name in ("rank", "alpha", "targets"))
    numbers = isinstance(rank, int) and isinstance(alpha, int | float) and not isinstance(rank, bool)
    if not (numbers and isinstance(targets, list) and all(isinstance(target, str) for target in targets)):
        raise ValueError(f"its 'lora' is {card.lora!r}")
    try:
        return LoRA(rank, float(alpha), tuple(targets))  # type: ignore[arg-type]
    except ThinwireError as error:
        raise ValueError(f"its 'lora' cannot be ({error})") from error


def went_on_from(before: Card) -> dict[str, Any]:
    """What the card of a training tells of the one that it went on from: its identity, and all commands up to it."""
    earlier = before.data.get(BEFORE, {}).get("commands", [])
    return {"identity": before.sha256, "commands": [*earlier, before.command]}
