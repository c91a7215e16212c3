"""What strategies are measured on, text or images, and what each of them loses there, told in one number."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from thinwire.engine import Codecs
from thinwire.evaluation.images import ImageDistance, image_figures, measure_images
from thinwire.evaluation.metrics import Distance, summarise
from thinwire.evaluation.quality import Progress, measure_quality
from thinwire.strategies import Strategy
from thinwire.strategies.balance import Split
from thinwire.weights.load import LoadedModel

Found = dict[str, list[Any]]  # by strategy, what was found of each input


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """Inputs that every strategy reads.

    Attributes:
        inputs_W: windows of token ids, or rows of patches of images.
        labels_W: the images' classes, for a model with a head for them.
        image_W: which image each input is a view of.
    """

    inputs_W: Int[np.ndarray, "W T"] | Float[np.ndarray, "W T P"]
    labels_W: Int[np.ndarray, " W"] | None = None
    image_W: Int[np.ndarray, " W"] | None = None

    @property
    def images(self) -> bool:
        """Whether they are images."""
        return self.inputs_W.ndim == 3

    @property
    def measure(self) -> str:
        """What a loss is of: ``perplexity``, ``accuracy`` or ``cosine``."""
        if not self.images:
            return "perplexity"
        return "cosine" if self.labels_W is None else "accuracy"

    @property
    def kind(self) -> Callable[..., Distance | ImageDistance]:
        """Makes what is found of each input."""
        return ImageDistance if self.images else Distance


def read_by(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    where: Mesh | int,
    reading: Reading,
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    done: Mapping[str, list[Any]] | None = None,
    save: Callable[[Found], None] = lambda found: None,
    progress: Progress = lambda inputs: None,
) -> Found:
    """Runs every input on the single device and by every strategy: ``quality.measure`` with the fitting comparison."""
    if reading.images:
        return measure_images(
            model, strategies, where, reading.inputs_W, codecs_of, reading.labels_W, done, save, progress
        )
    return measure_quality(
        model, strategies, where, reading.inputs_W, codecs_of, split, dict(done or {}), save, progress
    )


def figures(reading: Reading, distances: Sequence[Any]) -> dict[str, Any]:
    """Everything that was found, as numbers of a row; ``loss`` and ``loss_error`` are what ``reading.measure`` lost.

    Of perplexity it is the ratio to the single device's less 1, of accuracy what the single device has more, of
    cosines 1 less the mean cosine of class features.
    """
    if not reading.images:
        found = summarise(list(distances))
        loss, error = found.perplexity_ratio - 1, found.standard_error
        return {**dataclasses.asdict(found), "loss": loss, "loss_error": error, "inputs": len(distances)}
    found = image_figures(distances, reading.image_W)
    if reading.measure == "accuracy":
        loss, error = found["accuracy_lost"], found["accuracy_lost_error"]
    else:
        loss, error = 1 - found["class_cosine"], found["class_cosine_error"]
    return {**found, "loss": loss, "loss_error": error, "inputs": len(distances)}


def pooled(reading: Reading, several: Sequence[Sequence[Any]]) -> list[Any]:
    """Several findings about the same inputs as one about each: sums of tokens, means of images."""
    if reading.images:
        mean = lambda name, ones: float(np.mean([getattr(one, name) for one in ones]))
        names = [field.name for field in dataclasses.fields(ImageDistance)]
        return [ImageDistance(*(mean(name, ones) for name in names)) for ones in zip(*several, strict=True)]
    added = [field.name for field in dataclasses.fields(Distance) if field.name != "max_abs"]
    return [
        Distance(
            **{name: sum(getattr(one, name) for one in ones) for name in added},
            max_abs=max(one.max_abs for one in ones),
        )
        for ones in zip(*several, strict=True)
    ]


def against(reading: Reading, distances: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """The same, beside another strategy in place of the single device; cosines stay those to the single device."""
    if reading.images:
        return [dataclasses.replace(a, right_single=b.right) for a, b in zip(distances, others, strict=True)]
    return [
        dataclasses.replace(a, nll_single=b.nll * a.predicted / b.predicted)
        for a, b in zip(distances, others, strict=True)
    ]


def written(found: Mapping[str, Sequence[Any]]) -> dict[str, list[tuple]]:
    """What was found, as JSON has it."""
    return {spec: [dataclasses.astuple(one) for one in distances] for spec, distances in found.items()}


def unwritten(reading: Reading, found: Mapping[str, Sequence[Sequence[Any]]]) -> Found:
    """What ``written`` wrote, read again: JSON has no NaN, null stands for it."""
    number: Callable[[Any], Any] = lambda value: math.nan if value is None else value
    return {spec: [reading.kind(*map(number, one)) for one in distances] for spec, distances in found.items()}
