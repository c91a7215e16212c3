"""Nothing flows from later tokens to earlier ones, and what could not flow is not computed."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.models import llama
from thinwire.strategies import Ring, Sequence
from thinwire.strategies.base import Setting
from thinwire.wire.spmd import make_mesh, spmd


@pytest.mark.parametrize(
    ("spec", "devices"), [("sequence:float32", 3), ("ring:float32:chunks=2", 2), ("tensor:float32", 2)]
)
def test_no_gradient_from_the_future(spec, devices):
    """The derivative of logits[t] by the embedding of token t' is zero for every t' > t, and only there."""
    engine = tiny.engine(spec, devices, tied=False)
    tokens, dims, config = 9, engine.dims, engine.model.config
    setting = Setting(dims, engine.strategy.layout(dims, tokens, devices, None))
    device_T, row_T = setting.layout.places
    params, sharded = engine._params, engine._sharded

    def local(params, ids_T):
        position_R = engine.strategy.positions(setting)
        ids_R = ids_T[jnp.minimum(position_R, tokens - 1)]
        x_RD, _ = llama.forward(params, config, ids_R, position_R, engine.strategy, setting)
        return llama.unembed(params, x_RD)

    run = spmd(local, devices, (sharded, False))
    ids_T = jnp.arange(tokens)  # every token has a row of the embedding to itself

    def logits(embed_VD):
        return run({**params, "embed": embed_VD}, ids_T)[device_T, row_T]

    direction = jax.random.normal(jax.random.key(0), (config.D,))

    def by_embedding_of(token):
        tangent = jnp.zeros_like(params["embed"]).at[token].set(direction)
        return jax.jvp(logits, (params["embed"],), (tangent,))[1]

    derivative_STV = np.asarray(jax.jit(jax.vmap(by_embedding_of))(jnp.arange(tokens)))
    assert np.isfinite(derivative_STV).all()
    flows = (derivative_STV != 0).any(axis=-1)
    np.testing.assert_array_equal(flows, np.triu(np.ones((tokens, tokens), bool)))


@pytest.mark.parametrize(
    "spec",
    [
        "sequence:int8",
        "ring:vq:groups=6:size=16:sink=0",
        "sequence:vq:groups=6:size=16:layout=zigzag",
        "tensor:int8",
    ],
)
def test_the_future_does_not_reach_the_past_through_codes(spec):
    """By changing tokens, as codes have no derivative: logits before the change keep every bit."""
    engine = tiny.engine(spec, 3)
    ids = tiny.ids(23)
    before = engine.logits(ids)
    for at in (22, 9, 1):
        changed = ids.copy()
        changed[at:] = (changed[at:] + 7) % tiny.CONFIG.V
        after = engine.logits(changed)
        np.testing.assert_array_equal(after[:at], before[:at])
        assert (after[at:] != before[at:]).any(axis=1).all()


decoded = collections.Counter()


def _count(strategy):
    """The strategy, noting at run time which device decodes whose rows."""

    class Counting(strategy):
        def decode(self, scope, call, payloads, other):
            note = lambda me, other: decoded.update([(int(me), int(other))])
            jax.debug.callback(note, jax.lax.axis_index("devices"), other)
            return super().decode(scope, call, payloads, other)

    return Counting


@pytest.mark.parametrize("strategy", [Sequence, Ring])
@pytest.mark.parametrize("layout", ["contiguous", "zigzag"])
def test_rows_that_nobody_sees_are_not_decoded(strategy, layout):
    """On a mesh: device n decodes the n devices before it, device 0 nobody; in a zigzag everybody sees everybody."""
    engine = tiny.engine("sequence:float32")
    counting = dataclasses.dataclass(frozen=True)(_count(strategy))(layout_name=layout, site="kv")
    engine = type(engine)(engine.model, counting, make_mesh(3))
    decoded.clear()
    found = engine.logits(tiny.ids())
    jax.effects_barrier()
    np.testing.assert_allclose(found, tiny.single_logits(), atol=1e-5)
    layers = tiny.CONFIG.L
    pairs = [(n, m) for n in range(3) for m in range(3) if m != n and (layout == "zigzag" or m < n)]
    assert decoded == dict.fromkeys(pairs, layers)
