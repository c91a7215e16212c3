"""What coding alone takes of a pass: the codec run on rows of the right shape, without model and wire."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinwire.codecs import Predictive
from thinwire.codecs.base import Codec, CodecParams
from thinwire.engine import Engine
from thinwire.strategies import Sequence

_REPEATS = 5


def coding_seconds(engine: Engine, tokens: int) -> dict[str, float]:
    """Seconds that a device spends in a whole pass on encoding its rows and on decoding those of all others.

    Only of strategies that gather rows; zero for others, whose coding is counted as computing.
    """
    strategy, dims = engine.strategy, engine.dims
    if not isinstance(strategy, Sequence) or engine.devices == 1 or not strategy.codec.sends:
        return {"encode_s": 0.0, "decode_s": 0.0}
    codec, site = strategy.codec, strategy.sites(dims)[0]
    layers, rows, dim = strategy.coded_layers(dims), engine.layout(tokens).rows, dims.site_dim(site)
    params = {name: _last_layer(x) for name, x in engine.codecs.get(site, {}).items()}
    programs = coding_programs(codec, params, dim, rows)
    others = engine.devices - 1
    return {
        "encode_s": layers * _median(programs["own" if codec.predicts else "encode"]),
        "decode_s": layers * others * _median(programs["decode"]),
    }


def coding_programs(codec: Codec, params: CodecParams, dim: int, rows: int) -> dict[str, Callable]:
    """Coding of so many random rows, by kind (``thinwire.strategies.work.Coding``), to be called without arguments.

    Each is compiled when it is called first.
    """
    x_RD = jax.random.normal(jax.random.key(0), (rows, dim), jnp.float32)
    known = {}
    if isinstance(codec, Predictive):
        known["below"] = jnp.zeros((rows, dim), jnp.float32)
        if codec.knows_tokens:
            known["features"] = jnp.zeros((rows, codec.rank), jnp.float32)
    encode = jax.jit(lambda params, x_RD, known: codec.encode(params, x_RD, known))
    decode = jax.jit(lambda params, payload, known: codec.decode(params, payload, rows, dim, known))

    @jax.jit
    def own(params, x_RD, known):
        payload = codec.encode(params, x_RD, known)
        return payload, codec.decode(params, payload, rows, dim, known)

    payload = encode(params, x_RD, known)
    return {
        "encode": lambda: encode(params, x_RD, known),
        "decode": lambda: decode(params, payload, known),
        "own": lambda: own(params, x_RD, known),
    }


def _last_layer(x):
    """Of arrays stacked over layers, or a tuple of them, this host's copy of the last."""
    here = lambda array: jnp.asarray(array.addressable_shards[0].data)
    return here(x[-1]) if isinstance(x, tuple) else here(x)[-1]


def _median(work) -> float:
    jax.block_until_ready(work())
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)
