"""A tiny random vision Transformer whose every part matters, images for it, and codebooks."""

import dataclasses
import functools

import jax
import numpy as np

from thinwire.engine import Engine
from thinwire.models import vit
from thinwire.models.vit_config import ViTConfig
from thinwire.strategies import parse_strategy
from thinwire.weights.load import LoadedModel

CONFIG = ViTConfig(D=48, L=2, H=6, F=100, patch=3, grid=(4, 5), norm_eps=1e-6, layer_scale=True, classes=7)
TOKENS = CONFIG.tokens


@functools.cache
def model(**changes) -> LoadedModel:
    """Random weights, large enough for attention to be far from uniform; ``changes`` to the configuration."""
    config = dataclasses.replace(CONFIG, **changes)
    rng = np.random.default_rng(1)

    def draw(path, shape):
        name = path[-1].key
        x = rng.standard_normal(shape, np.float32)
        if name.endswith(("norm", "scale")):
            return 1 + np.float32(0.2) * x
        return np.float32(0.3 if name.endswith("bias") or name.startswith("b") else 0.2) * x

    shapes = vit.param_shapes(config)
    params = jax.tree_util.tree_map_with_path(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))
    return LoadedModel("tiny-vit", "vit", config, params, None, "0" * 64)


def image(seed: int = 0, config: ViTConfig = CONFIG) -> np.ndarray:
    """Rows of patch values."""
    high, wide = (config.patch * n for n in config.grid)
    pixels = np.random.default_rng(seed).standard_normal((high, wide, config.channels), np.float32)
    return vit.patches(pixels, config.patch, config.margin)


def codebooks(strategy, dims, seed: int = 0) -> dict:
    """Random codebooks for every site of the strategy; none where its codec learns nothing."""
    if not strategy.codec.learns:
        return {}
    keys = jax.random.split(jax.random.key(seed), len(strategy.sites(dims)))
    return {
        site: strategy.codec.init_params(key, dims.layers, dims.site_dim(site))
        for key, site in zip(keys, strategy.sites(dims), strict=True)
    }


def engine(spec: str, where=1, split=None, dtype: str = "float32", **changes) -> Engine:
    """The tiny model by the strategy ``spec``, with random codebooks where it needs some."""
    strategy, tiny = parse_strategy(spec), model(**changes)
    return Engine(tiny, strategy, where, codebooks(strategy, vit.dims(tiny.config)), split, dtype)


@functools.cache
def single_features(seed: int = 0, **changes) -> np.ndarray:
    """What every exact strategy has to give."""
    return engine("single", **changes).logits(image(seed))
