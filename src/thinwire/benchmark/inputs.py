"""What a benchmark reads: seeded inputs, and codebooks of the right shapes where there are no learnt ones."""

import jax
import numpy as np

from thinwire.codebooks.store import load as load_codebooks
from thinwire.codecs.base import SHARED
from thinwire.engine import Codecs, Inputs
from thinwire.models.families import FAMILIES
from thinwire.strategies import Strategy
from thinwire.weights.load import LoadedModel


def inputs_of(model: LoadedModel, tokens: int, seed: int = 0) -> Inputs:
    """Random token ids, or patch values, of so many tokens; the same on every host."""
    rng = np.random.default_rng(seed)
    spec = FAMILIES[model.family].inputs_spec(model.config, tokens)
    if np.issubdtype(spec.dtype, np.integer):
        return rng.integers(0, FAMILIES[model.family].dims(model.config).vocab, spec.shape).astype(spec.dtype)
    return rng.standard_normal(spec.shape, np.float32).astype(spec.dtype)


def codecs_of(strategy: Strategy, model: LoadedModel, folder: str | None) -> Codecs:
    """Codebooks from a folder; else random ones, for which every code takes as long as for learnt ones."""
    if not strategy.codec.learns:
        return {}
    if folder is not None:
        return load_codebooks(folder).arrays
    dims = FAMILIES[model.family].dims(model.config)
    sites = strategy.sites(dims)
    keys = jax.random.split(jax.random.key(0), len(sites) + 1)
    params = {
        site: strategy.codec.init_params(key, dims.layers, dims.site_dim(site))
        for key, site in zip(keys[1:], sites, strict=True)
    }
    shared = strategy.codec.init_shared(keys[0], dims.width)
    return params | ({SHARED: shared} if shared else {})
