"""An adapter as a training would leave it, for tests."""

import jax
import numpy as np

import tiny
from thinwire.models.families import FAMILIES
from thinwire.strategies import parse_strategy
from thinwire.training import adapters
from thinwire.training.artefact import Artefact, describe

SPEC = "sequence:vq:groups=6:size=16"
STRATEGY = parse_strategy(SPEC)
LORA = adapters.LoRA(rank=2, alpha=4.0, targets=("attention", "w_up"))
FACTS = {"data": {"source": "a text", "tokens": {"train": 4096}}, "seed": 7, "command": "python -m train.it config.py"}
FIGURES = {"perplexity": {"before": 20.512345678, "after": 19.25}, "broken": float("nan"), "counted": np.int64(3)}


def trained(model=None, strategy=STRATEGY, lora=LORA, seed=0, **more) -> Artefact:
    """An adapter as a training would leave it, of arrays of JAX."""
    model = model or tiny.model()
    family, rng = FAMILIES[model.family], np.random.default_rng(seed)
    arrays = adapters.init(lora, jax.random.key(seed), family, model.config)
    arrays = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), arrays)
    card = describe(model, strategy, lora, **FACTS, figures=FIGURES)
    return Artefact(card, arrays, tiny.codebooks(strategy, family.dims(model.config), seed), **more)
