"""What a training begins with, and what it leaves: the model, the part of it that is trained, and the artefact."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import numpy as np

from thinwire.errors import ThinwireError
from thinwire.strategies import Strategy
from thinwire.training import artefact
from thinwire.training.adapters import LoRA
from thinwire.training.artefact import Artefact
from thinwire.training.averages import after_training
from thinwire.training.card import BEFORE, Card, lora_of, went_on_from
from thinwire.training.train_state import TrainState
from thinwire.training.trainable import Trainable, everything, low_rank, nothing
from thinwire.weights.load import LoadedModel, load_model

Part = Literal["adapter", "weights", "codebooks"]
SCRATCH = "scratch"


@runtime_checkable
class Asked(Protocol):
    """What a configuration says about it."""

    @property
    def start(self) -> Path | None:
        """A trained artefact to go on from; its codebooks are learnt anew."""
        ...

    @property
    def model(self) -> str:
        """A model by its name, or ``scratch``, where there is no artefact."""
        ...

    @property
    def train(self) -> Part:
        """What of it is trained."""
        ...

    @property
    def lora(self) -> LoRA:
        """The settings of a new adapter; one that is trained on keeps its own."""
        ...

    @property
    def seed(self) -> int:
        """Of what is random in the beginning."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Beginning:
    """A model before its first step.

    Attributes:
        model: as it computes at the beginning, which is what the teacher computes too.
        base: the model that an adapter is added to, or whose weights were trained; of random weights the model itself.
        part: what of it is trained.
        lora: the settings of the adapter, if one is trained.
        scratch: whether the base model's weights do not matter.
        before: the card of the artefact that it goes on from, if it does.
    """

    model: LoadedModel
    base: LoadedModel
    part: Trainable
    lora: LoRA | None = None
    scratch: bool = False
    before: Card | None = None

    def save(
        self, out: Path, state: TrainState, strategy: Strategy, data: Mapping[str, Any], seed: int, command: str,
        figures: Mapping[str, Any], eight_bits: bool = False,
    ) -> Artefact:  # fmt: skip
        """Saves what was trained: an adapter with its codebooks, or all weights with them."""
        codecs = jax.tree.map(np.asarray, after_training(strategy.codec, state.arrays))
        data = {**data, **({} if self.before is None else {BEFORE: went_on_from(self.before)})}
        card = artefact.describe(self.base, strategy, self.lora, data, seed, command, figures, self.scratch)
        trained = state.params["model"]
        kept = trained if self.lora else self.part.merge(trained, self.part.frozen)
        kept = jax.tree.map(np.asarray, kept)
        return artefact.save(out, Artefact(card, kept, codecs), "float16" if self.lora else "float32", eight_bits)


def beginning(asked: Asked, from_scratch: Callable[[], LoadedModel]) -> Beginning:
    """What a configuration asks to begin with.

    Args:
        asked: the configuration.
        from_scratch: gives the model with random weights.

    Raises:
        ThinwireError: there is no such artefact or model, or it has no such part to train.
    """
    if asked.start is not None:
        return _go_on(asked.start, asked.train)
    if asked.model == SCRATCH:
        model = from_scratch()
        return Beginning(model, model, _whole(asked.train, model), scratch=True)
    model = load_model(asked.model)
    if asked.train == "adapter":
        return Beginning(model, model, low_rank(model, asked.lora, asked.seed), asked.lora)
    return Beginning(model, model, _whole(asked.train, model))


def _go_on(folder: Path, train: Part) -> Beginning:
    found = artefact.load(folder)
    lora = lora_of(found.card)
    if found.card.from_scratch:
        model = artefact.from_scratch(found)
        return Beginning(model, model, _whole(train, model), scratch=True, before=found.card)
    base = load_model(found.card.model)
    model = artefact.apply(found, base)
    if train == "adapter" and lora is not None:
        return Beginning(model, base, low_rank(base, lora, start=found.arrays), lora, before=found.card)
    return Beginning(model, base, _whole(train, model), before=found.card)


def _whole(train: Part, model: LoadedModel) -> Trainable:
    if train == "adapter":
        raise ThinwireError(f"{model.name} is no base model that an adapter could be kept for; use train=weights.")
    return everything(model) if train == "weights" else nothing(model)
