"""How near the features of a distributed run are to the single device's, on the same images."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from thinwire.engine import Codecs, Engine, cast
from thinwire.evaluation.compare import identity, make_engine
from thinwire.strategies import Single, Strategy
from thinwire.weights.load import LoadedModel

Progress = Callable[[str], None]


def cosines(found_TD: Float[np.ndarray, "T D"], single_TD: Float[np.ndarray, "T D"]) -> Float[np.ndarray, " T"]:
    """The cosine of every row to that of the single device."""
    a, b = found_TD.astype(np.float64), single_TD.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def mean_and_error(values_W: Sequence[float], image_W: Int[np.ndarray, " W"]) -> tuple[float, float]:
    """The mean over views, and its standard error over images: views of one image are not independent. NaN for one."""
    values = np.asarray(values_W, np.float64)
    of_image = np.array([values[image_W == image].mean() for image in np.unique(image_W)])
    error = of_image.std(ddof=1) / np.sqrt(len(of_image)) if len(of_image) > 1 else float("nan")
    return float(values.mean()), float(error)


def compare_features(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    devices: int,
    rows_WTP: Float[np.ndarray, "W T P"],
    image_W: Int[np.ndarray, " W"],
    codecs_of: Callable[[Strategy], Codecs],
    progress: Progress = lambda _: None,
) -> list[dict[str, Any]]:
    """Runs every strategy on virtual devices over the same views.

    Args:
        rows_WTP: the views, as the model reads them; row 0 of each is the class token's.
        image_W: which image each is a view of.
        codecs_of: the learnt arrays that a strategy needs, by site.
        progress: told what runs next: 'single', then each strategy once.

    Returns:
        A row for each strategy, in order: bits, bytes, and cosines of the class feature and of the patches' (mean).
    """
    model = dataclasses.replace(model, params=jax.device_put(cast(model.params, "float32")))  # once for all engines
    reference = Engine(model, Single())
    progress("single")
    single_WTD = [reference.logits(rows_TP) for rows_TP in rows_WTP]
    tokens = rows_WTP.shape[1]
    found = []
    for strategy in strategies:
        progress(strategy.spec())
        engine = make_engine(model, strategy, devices, codecs_of, sharing=[reference])
        near = [cosines(engine.logits(x), single) for x, single in zip(rows_WTP, single_WTD, strict=True)]
        class_mean, class_error = mean_and_error([cosine_T[0] for cosine_T in near], image_W)
        patch_mean, patch_error = mean_and_error([cosine_T[1:].mean() for cosine_T in near], image_W)
        found.append(
            {
                **identity(engine, tokens),
                "class_tokens": "each" if engine.layout(tokens).shared else "one",
                "class_cosine": class_mean,
                "class_cosine_error": class_error,
                "patch_cosine": patch_mean,
                "patch_cosine_error": patch_error,
                "views": len(rows_WTP),
            }
        )
    return found
