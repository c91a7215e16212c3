"""A tiny random model of each family of language, whose every part matters, and codebooks for it; mostly a Llama."""

import dataclasses
import functools

import jax
import numpy as np

from thinwire.codecs.base import SHARED
from thinwire.engine import Engine
from thinwire.models.bert_config import BertConfig
from thinwire.models.families import FAMILIES
from thinwire.models.gpt2_config import GPT2Config
from thinwire.models.llama_config import LlamaConfig
from thinwire.strategies import parse_strategy
from thinwire.weights.load import LoadedModel
from thinwire.weights.shapes import random_params

CONFIG = LlamaConfig(D=48, L=2, H=9, K=3, d=8, F=100, V=64, context=64)
CONFIGS = {
    "llama": CONFIG,
    "gpt2": GPT2Config(D=48, L=2, H=6, F=100, V=64, context=64),
    "bert": BertConfig(D=48, L=2, H=6, F=100, V=64, context=64),
}
TOKENS = 37


@functools.cache
def model(family: str = "llama", **changes) -> LoadedModel:
    """Random weights, large enough for attention to be far from uniform; ``changes`` to the configuration."""
    config = dataclasses.replace(CONFIGS[family], **changes)
    rng = np.random.default_rng(1)

    def stretched(path, x):
        if "norm" in jax.tree_util.keystr(path):
            return x + 0.2 * rng.standard_normal(x.shape, np.float32)
        return 10 * x

    params = jax.tree_util.tree_map_with_path(stretched, random_params(config))
    return LoadedModel("tiny", family, config, params, None, "0" * 64)


def ids(tokens: int = TOKENS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CONFIG.V, tokens).astype(np.int32)


def codebooks(strategy, dims, seed: int = 0) -> dict:
    """Random codebooks for every site of the strategy; none where its codec learns nothing."""
    if not strategy.codec.learns:
        return {}
    keys = jax.random.split(jax.random.key(seed), len(strategy.sites(dims)))
    params = {
        site: strategy.codec.init_params(key, dims.layers, dims.site_dim(site))
        for key, site in zip(keys, strategy.sites(dims), strict=True)
    }
    shared = strategy.codec.init_shared(jax.random.key(seed), dims.width)
    return params | ({SHARED: shared} if shared else {})


def engine(spec: str, where=1, split=None, dtype: str = "float32", **changes) -> Engine:
    """The tiny model (``changes`` as of ``model``) by a strategy, with random codebooks where it needs some."""
    strategy = parse_strategy(spec)
    tiny = model(**changes)
    dims = FAMILIES[tiny.family].dims(tiny.config)
    return Engine(tiny, strategy, where, codebooks(strategy, dims), split, dtype)


@functools.cache
def single_logits(tokens: int = TOKENS, **changes) -> np.ndarray:
    """What every exact strategy has to give."""
    return engine("single", **changes).logits(ids(tokens))


def dims(family: str = "llama"):
    """The sizes of a family's tiny model."""
    return FAMILIES[family].dims(CONFIGS[family])
