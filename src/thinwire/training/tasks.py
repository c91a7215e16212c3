"""What is to be learnt: the loss of the rows that devices hold, and what it is joined to."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from thinwire.models.families import Family
from thinwire.strategies import Setting
from thinwire.wire import collectives

Example = Mapping[str, Array]  # ``inputs`` (T, ...) and what the task needs beside them
Metrics = dict[str, Array]


@runtime_checkable
class Task(Protocol):
    """What a model is trained for."""

    def of_device(
        self, family: Family, params: Any, setting: Setting, x_RD: Float[Array, "R D"], example: Example, teacher: Any
    ) -> Any:
        """What one device finds of one example, of the rows of the layout.

        ``teacher`` holds what the single device made of it: ``rows`` (T, D), and the ``params`` it did so with.
        """
        ...

    def loss(self, params: Any, setting: Setting, found_NB: Any, examples_B: Example) -> tuple[Array, Metrics]:
        """The mean loss of a batch and figures, from what the devices found (leading axes N and B)."""
        ...


def own_positions(setting: Setting) -> tuple[Array, Array]:
    """Positions of the rows of this device's layout, and which of them count: shared ones on device 0 only."""
    layout, me = setting.layout, collectives.device_index()
    position_R = jnp.concatenate([jnp.arange(layout.shared), jnp.asarray(layout.positions_NR)[me]])
    counted_R = jnp.concatenate([jnp.broadcast_to(me == 0, layout.shared), jnp.asarray(layout.valid_NR)[me]])
    return position_R, counted_R


@dataclasses.dataclass(frozen=True)
class NextToken:
    """Each token predicts the next one.

    Attributes:
        distil: the weight of the divergence KL(teacher || student) of the predictions, over the T−1 that have a next
            token; what is left of 1 is the cross-entropy.
    """

    distil: float = 0.0

    def of_device(self, family, params, setting, x_RD, example, teacher):
        """Sums over own tokens that have a next one: cross-entropy, divergence, hits, and their number."""
        ids_T = example["inputs"]
        last = ids_T.shape[0] - 1
        position_R, counted_R = own_positions(setting)
        counted_R = (counted_R & (position_R < last)).astype(jnp.float32)
        target_R = ids_T[jnp.minimum(position_R + 1, last)]
        logits_RV = family.unembed(params, x_RD)
        entropy_R = optax.softmax_cross_entropy_with_integer_labels(logits_RV, target_R)
        sums = {
            "cross_entropy": jnp.sum(entropy_R * counted_R),
            "hits": jnp.sum((jnp.argmax(logits_RV, axis=1) == target_R).astype(jnp.float32) * counted_R),
            "tokens": jnp.sum(counted_R),
        }
        if teacher is not None and self.distil:
            teacher_RD = teacher["rows"][jnp.minimum(position_R, last)]
            teacher_RV = jax.nn.log_softmax(family.unembed(teacher["params"], teacher_RD))
            divergence_R = jnp.sum(jnp.exp(teacher_RV) * (teacher_RV - jax.nn.log_softmax(logits_RV)), axis=1)
            sums["divergence"] = jnp.sum(divergence_R * counted_R)
        return sums

    def loss(self, params, setting, found_NB, examples_B):
        """Means over the tokens of the batch."""
        del params, setting, examples_B
        sums = jax.tree.map(jnp.sum, found_NB)
        mean = {name: value / sums["tokens"] for name, value in sums.items() if name != "tokens"}
        task = mean["cross_entropy"]
        if "divergence" in mean:
            task = (1 - self.distil) * task + self.distil * mean["divergence"]
        return task, {"task": mean["cross_entropy"], "accuracy": mean.pop("hits"), **mean}


@dataclasses.dataclass(frozen=True)
class Classify:
    """The class of an image from its class token, or from the mean of the devices' class tokens.

    Attributes:
        smoothing: of the labels.
        distil: the weight of KL(teacher || student); what is left of 1 is the cross-entropy.
    """

    smoothing: float = 0.0
    distil: float = 0.0

    def of_device(self, family, params, setting, x_RD, example, teacher):
        """The class token's features as this device has them."""
        del setting, example
        found = {"features": family.unembed(params, x_RD[:1])[0]}
        if teacher is None or not self.distil:
            return found
        features_D = family.unembed(teacher["params"], teacher["rows"][:1])[0]
        return {**found, "teacher": _class_logits(teacher["params"], features_D[None])[0]}

    def loss(self, params, setting, found_NB, examples_B):
        """Cross-entropy with the labels of the batch."""
        logits_BC = _class_logits(params, class_features(setting, found_NB["features"]))
        label_B, classes = examples_B["labels"], logits_BC.shape[1]
        target_BC = optax.smooth_labels(jax.nn.one_hot(label_B, classes), self.smoothing)
        entropy = optax.softmax_cross_entropy(logits_BC, target_BC).mean()
        metrics = {
            "task": entropy,
            "accuracy": jnp.mean((jnp.argmax(logits_BC, axis=1) == label_B).astype(jnp.float32)),
        }
        if "teacher" not in found_NB:
            return entropy, metrics
        teacher_BC = jax.nn.log_softmax(found_NB["teacher"][0])
        divergence = jnp.sum(jnp.exp(teacher_BC) * (teacher_BC - jax.nn.log_softmax(logits_BC)), axis=1).mean()
        return (1 - self.distil) * entropy + self.distil * divergence, {**metrics, "divergence": divergence}


def class_features(setting: Setting, features_NBD: Float[Array, "N B D"]) -> Float[Array, "B D"]:
    """The mean of the devices' class tokens where each has its own [papers.md 1.6], else device 0's."""
    return features_NBD.mean(axis=0) if setting.layout.shared else features_NBD[0]


def _class_logits(params, features_BD):
    return features_BD @ params["head"].astype(jnp.float32) + params["head_bias"].astype(jnp.float32)[None]
