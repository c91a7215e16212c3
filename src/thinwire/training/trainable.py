"""What of a model is trained: all of its weights, low-rank changes to them, or nothing but the codec."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thinwire.models.families import FAMILIES
from thinwire.training import adapters
from thinwire.training.adapters import LoRA
from thinwire.weights.load import LoadedModel


@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """The part of a model that is trained.

    Attributes:
        start: its arrays before the first step, float32.
        frozen: the arrays that stay.
        merge: from trained and frozen arrays to the parameters of the model; runs inside of the compiled step.
    """

    start: Any
    frozen: Any
    merge: Callable[[Any, Any], Any]


def everything(model: LoadedModel) -> Trainable:
    """All weights."""
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), model.params)
    return Trainable(params, {}, lambda trained, _: trained)


def nothing(model: LoadedModel) -> Trainable:
    """No weight: only what the codec learns."""
    return Trainable({}, jax.tree.map(jnp.asarray, model.params), lambda _, frozen: frozen)


def low_rank(model: LoadedModel, lora: LoRA, seed: int = 0, start: Any = None) -> Trainable:
    """LoRA: low-rank changes to the weights that ``lora`` names; from ``start`` on if an adapter is trained further."""
    if start is None:
        start = adapters.init(lora, jax.random.key(seed), FAMILIES[model.family], model.config)
    start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    merge = lambda trained, frozen: adapters.merge(frozen, trained, lora)
    return Trainable(start, jax.tree.map(jnp.asarray, model.params), merge)
