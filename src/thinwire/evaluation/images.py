"""What coding costs on images, image by image: features beside the single device's, and the class that they name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from thinwire.engine import Codecs
from thinwire.evaluation.features import cosines, mean_and_error
from thinwire.evaluation.quality import Progress, measure
from thinwire.models.vit import classify
from thinwire.strategies import Strategy
from thinwire.weights.load import LoadedModel

NONE = float("nan")


@dataclasses.dataclass(frozen=True)
class ImageDistance:
    """One image: cosines of features to the single device's, and what its class is taken for.

    Each of the last three is 1 or 0, or NaN: without a head nothing is taken for a class, without a label nothing is
    right.
    """

    class_cosine: float
    patch_cosine: float
    same_class: float = NONE  # as the single device says
    right: float = NONE
    right_single: float = NONE


Found = dict[str, list[ImageDistance]]  # by strategy, one for each image that is done


def measure_images(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    where: Mesh | int,
    rows_WTP: Float[np.ndarray, "W T P"],
    codecs_of: Callable[[Strategy], Codecs],
    labels_W: Int[np.ndarray, " W"] | None = None,
    done: Mapping[str, list[ImageDistance]] | None = None,
    save: Callable[[Found], None] = lambda found: None,
    progress: Progress = lambda images: None,
) -> Found:
    """Runs every image on the single device and by every strategy, as ``quality.measure``.

    Args:
        rows_WTP: the images, as the model reads them; row 0 of each is the class token's.
        labels_W: their classes, where the model has a head for these.
    """
    head = {name: np.asarray(model.params[name]) for name in ("head", "head_bias") if name in model.params}

    def compare(w: int, found_TD, single_TD) -> ImageDistance:
        cosine_T = cosines(found_TD, single_TD)
        near = (float(cosine_T[0]), float(cosine_T[1:].mean()))
        if not head:
            return ImageDistance(*near)
        told, told_single = (int(classify(head, features_TD).argmax()) for features_TD in (found_TD, single_TD))
        if labels_W is None:
            return ImageDistance(*near, float(told == told_single))
        right = (float(told == labels_W[w]), float(told_single == labels_W[w]))
        return ImageDistance(*near, float(told == told_single), *right)

    return measure(model, strategies, where, rows_WTP, compare, codecs_of, None, done, save, progress)


def image_figures(distances: Sequence[ImageDistance], image_W: Int[np.ndarray, " W"] | None = None) -> dict[str, Any]:
    """Means over images, with standard errors; of accuracy the error is that of the loss, image by image.

    Args:
        image_W: which image each is a view of, where several are; views of one image are not independent.
    """
    of_image = np.arange(len(distances)) if image_W is None else image_W[: len(distances)]
    mean = lambda name: float(np.mean([getattr(one, name) for one in distances]))
    cosine, cosine_error = mean_and_error([one.class_cosine for one in distances], of_image)
    lost, lost_error = mean_and_error([one.right_single - one.right for one in distances], of_image)
    return {
        "class_cosine": cosine,
        "class_cosine_error": cosine_error,
        "patch_cosine": mean("patch_cosine"),
        "same_class": mean("same_class"),
        "accuracy": mean("right"),
        "accuracy_single": mean("right_single"),
        "accuracy_lost": lost,
        "accuracy_lost_error": lost_error,
    }
