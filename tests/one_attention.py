"""A single attention by a strategy on virtual devices, without a model around it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from thinwire.attention.call import AttentionCall
from thinwire.dims import ModelDims
from thinwire.strategies import parse_strategy
from thinwire.strategies.base import LayerScope, Setting
from thinwire.wire.spmd import spmd

T, H, K, d = 17, 6, 2, 4
DIMS = ModelDims(1, H * d, H, K, d, 8, 3, 10, 64, causal=True)
RNG = np.random.default_rng(0)
CODEBOOK = RNG.standard_normal((4, 8, 2 * K * d // 4), np.float32)  # of vq:groups=4:size=8
Q = RNG.standard_normal((T, H, d), np.float32)
KV = RNG.standard_normal((T, 2 * K * d), np.float32)


def turn(x_THd, position_T):
    """A position code that differs at every position and pads harmlessly."""
    angle = jnp.minimum(position_T, T).astype(jnp.float32)[:, None, None] * 0.3
    a, b = jnp.split(x_THd, 2, axis=-1)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), b * jnp.cos(angle) + a * jnp.sin(angle)], axis=-1)


def keys_values(site, rows):
    assert site == "kv"
    k, v = jnp.split(rows.reshape(rows.shape[0], 2 * K, d), 2, axis=1)
    return k, v


@functools.cache
def program(spec, devices, split, causal):
    """The attention by ``spec``: (q, kv, learnt arrays) of the sequence -> outputs of the sequence; and the layout."""
    dims = dataclasses.replace(DIMS, causal=causal)
    strategy = parse_strategy(spec)
    setting = Setting(dims, strategy.layout(dims, T, devices, split))

    def local(q_TD, kv_TE, params):
        position_R = strategy.positions(setting)
        rows = jnp.minimum(position_R, T - 1)
        scope = LayerScope(setting, {"kv": params}, {}, ())
        q_RHd = q_TD[rows]
        sites = {"norm": q_RHd.reshape(len(rows), -1), "kv": kv_TE[rows]}
        queries = lambda q_RD: q_RD.reshape(q_RHd.shape)
        call = AttentionCall(position_R, queries, sites, keys_values, turn, d**-0.5, causal)
        return strategy.output(setting, strategy.attend(scope, call))

    run = jax.jit(spmd(local, devices, (False, False, False)))
    return lambda q, kv, params: setting.layout.join(np.asarray(run(q, kv, params))), setting.layout


def halos(spec, devices, split, causal=True):
    """By device: the ranges of other devices' tokens that it holds exactly."""
    dims, strategy = dataclasses.replace(DIMS, causal=causal), parse_strategy(spec)
    return strategy.work(Setting(dims, strategy.layout(dims, T, devices, split))).halos
