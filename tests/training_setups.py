"""Tiny models as they are trained, with data that can be learnt."""

import jax
import numpy as np

import tiny
import tiny_vit
from thinwire.models.families import FAMILIES
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.step import Setup, start_state
from thinwire.training.tasks import Classify, NextToken
from thinwire.training.trainable import everything


def text_setup(
    recipe: Recipe, tokens: int = 21, steps: int = 20, rate: float = 1e-3, family="llama", **options
) -> Setup:
    """A tiny language model, all of whose weights are trained."""
    model = tiny.model(family)
    task = NextToken(recipe.distil)
    trainable = options.pop("trainable", None) or everything(model)
    optimiser = Optimiser(rate=rate, steps=steps, warmup=2)
    return Setup(model, recipe, task, trainable, optimiser, tokens, **options)


def image_setup(recipe: Recipe, steps: int = 20, rate: float = 1e-3, **options) -> Setup:
    """A tiny vision Transformer, all of whose weights are trained."""
    model = tiny_vit.model()
    optimiser = Optimiser(rate=rate, steps=steps, warmup=2)
    return Setup(model, recipe, Classify(), everything(model), optimiser, tiny_vit.TOKENS, **options)


def codebooks(setup: Setup, seed: int = 0):
    """Random arrays for the codec."""
    make = tiny_vit.codebooks if setup.model.family == "vit" else tiny.codebooks
    return make(setup.recipe.parsed(), FAMILIES[setup.model.family].dims(setup.model.config), seed)


def state_of(setup: Setup, rows: int = 64):
    """The state before the first step."""
    return start_state(setup, codebooks(setup), rows)


def texts(setup: Setup, batch: int = 4):
    """From a step to random token ids."""
    vocab = setup.dims.vocab

    def of_step(step: int):
        rng = np.random.default_rng([5, step])
        return {"inputs": rng.integers(0, vocab, (batch, setup.tokens)).astype(np.int32)}

    return of_step


def images(setup: Setup, batch: int = 4):
    """From a step to random images, whose class is written on every patch."""

    def of_step(step: int):
        rng = np.random.default_rng([5, step])
        labels = rng.integers(0, setup.model.config.classes, batch).astype(np.int32)
        rows = np.stack([tiny_vit.image(int(rng.integers(1 << 30))) for _ in labels])
        rows[np.arange(batch), 1:, 0] = labels[:, None]
        return {"inputs": rows.astype(np.float32), "labels": labels}

    return of_step


def largest_difference(a, b) -> float:
    """Of any two arrays of two trees."""
    gaps = jax.tree.map(lambda x, y: float(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max()), a, b)
    return max(jax.tree.leaves(gaps), default=0.0)
