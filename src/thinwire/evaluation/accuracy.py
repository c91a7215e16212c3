"""How many images a model classifies as their labels say, by a strategy, many images at a time."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Strategy
from thinwire.weights.load import LoadedModel
from thinwire.wire.spmd import spmd

BATCH = 250


def logits_of_images(
    model: LoadedModel,
    strategy: Strategy,
    devices: int,
    codecs: Codecs,
    rows_BTP: Float[np.ndarray, "B T P"],
    split: tuple[float, ...] | None = None,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "B classes"]:
    """Class logits of images by virtual devices; what is sent are real payloads, bit for bit.

    Args:
        rows_BTP: images as ``models.vit.patches`` makes them.
        codecs: the codec's arrays by site, in use (not in training).

    Raises:
        ThinwireError: the model has no classification head.
    """
    if "head" not in model.params:
        raise ThinwireError(f"{model.name} has no classification head, so it has no accuracy; use eval.features.")
    batch = min(batch, len(rows_BTP))
    program = _program(model.family, model.config, strategy, devices, split, rows_BTP.shape[1])
    params = jax.tree.map(jnp.asarray, model.params)
    found = []
    for start in range(0, len(rows_BTP), batch):
        some = rows_BTP[start : start + batch]
        padded = np.concatenate([some, np.zeros((batch - len(some), *some.shape[1:]), some.dtype)])
        found.append(np.asarray(program(params, dict(codecs), jnp.asarray(padded)))[: len(some)])
        progress(min(start + batch, len(rows_BTP)))
    return np.concatenate(found)


def accuracy(logits_BC: Float[np.ndarray, "B C"], labels_B: Int[np.ndarray, " B"]) -> float:
    """The part of images whose largest logit is their label's."""
    return float((logits_BC.argmax(axis=1) == labels_B).mean())


@functools.lru_cache(maxsize=32)
def _program(family_name: str, config: Any, strategy: Strategy, devices: int, split, tokens: int) -> Callable:
    family = FAMILIES[family_name]
    dims = family.dims(config)
    setting = Setting(dims, strategy.layout(dims, tokens, devices, split))

    def local(params: Mapping[str, Any], codecs: Codecs, rows_BTP):
        position_R = strategy.positions(setting)

        def of_image(rows_TP):
            rows = rows_TP[jnp.minimum(position_R, tokens - 1)]
            x_RD, _ = family.forward(params, config, rows, position_R, strategy, setting, codecs, prompt=rows_TP)
            return family.unembed(params, x_RD[:1])[0]

        return jax.vmap(of_image)(rows_BTP)

    def program(params, codecs, rows_BTP):
        features_NBD = spmd(local, devices, (False, False, False))(params, codecs, rows_BTP)
        pooled = setting.layout.shared and not dims.causal  # a class token on every device
        features_BD = features_NBD.mean(axis=0) if pooled else features_NBD[0]
        return features_BD @ params["head"] + params["head_bias"][None]

    return jax.jit(program)
