import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.models import llama
from thinwire.models.llama_config import LlamaConfig, RopeScaling, param_axes, param_shapes
from thinwire.models.rope import rope_frequencies


def numpy_llama(params, config, ids):
    """Llama once more, in float64 and loops, from the formulas; rotation by complex numbers."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    norm = lambda x, gain: x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * gain
    frequency = config.rope_theta ** (-2 * np.arange(config.d // 2) / config.d)

    def rotate(x, t):
        turned = (x[: config.d // 2] + 1j * x[config.d // 2 :]) * np.exp(1j * t * frequency)
        return np.concatenate([turned.real, turned.imag])

    x = p["embed"][ids]
    for layer in range(config.L):
        w = {name: array[layer] for name, array in p["layers"].items()}
        h = norm(x, w["attn_norm"])
        out = np.zeros_like(x)
        for head in range(config.H):
            shared = head * config.K // config.H
            q = np.stack([rotate(row @ w["wq"][:, head], t) for t, row in enumerate(h)])
            k = np.stack([rotate(row @ w["wk"][:, shared], t) for t, row in enumerate(h)])
            v = h @ w["wv"][:, shared]
            for t in range(len(ids)):
                score = k[: t + 1] @ q[t] / np.sqrt(config.d)
                weight = np.exp(score - score.max())
                out[t] += (weight / weight.sum()) @ v[: t + 1] @ w["wo"][head]
        x = x + out
        h = norm(x, w["mlp_norm"])
        gate = h @ w["w_gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["w_up"])) @ w["w_down"]
    head = p["embed"].T if config.tied else p["head"]
    return norm(x, p["final_norm"]) @ head


@pytest.mark.parametrize("changes", [{}, {"tied": False, "L": 1, "H": 4, "K": 4}])
def test_equals_an_independent_numpy_llama(changes):
    model = tiny.model(**changes)
    ids = tiny.ids(11)
    found = jax.jit(llama.logits, static_argnums=1)(model.params, model.config, ids)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, numpy_llama(model.params, model.config, ids), atol=1e-4)


def test_logits_do_not_depend_on_later_tokens_by_gradient():
    model = tiny.model(tied=False)
    ids = jnp.arange(7)  # every token has a row of the embedding to itself

    def loss(embed, t):
        return (llama.logits({**model.params, "embed": embed}, model.config, ids)[t] ** 2).sum()

    slopes = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(model.params["embed"], ids)
    flows = (np.asarray(slopes)[:, :7] != 0).any(axis=-1)
    np.testing.assert_array_equal(flows, np.tril(np.ones((7, 7), bool)))


def test_flax_module_is_the_pure_functions():
    model = tiny.model()
    module, ids = llama.Llama(model.config), jnp.asarray(tiny.ids(9))
    variables = jax.eval_shape(module.init, jax.random.key(0), ids)
    assert jax.tree.map(lambda x: x.shape, variables["params"]) == param_shapes(model.config)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    layers = jax.jit(lambda key: {n: module.init(key, ids)["params"]["layers"][n] for n in ("attn_norm", "wq")})
    begun = layers(jax.random.key(0))
    assert (np.asarray(begun["attn_norm"]) == 1).all()
    assert 0.015 < np.asarray(begun["wq"]).std() < 0.025
    ours = jax.tree.map(jnp.asarray, model.params)
    applied = jax.jit(module.apply)({"params": ours}, ids)
    np.testing.assert_allclose(applied, tiny.engine("single").logits(np.asarray(ids)), atol=1e-6)


def test_every_axis_has_a_name():
    for config in (tiny.CONFIG, dataclasses.replace(tiny.CONFIG, tied=False)):
        ranks = jax.tree.map(lambda shape: len(shape), param_shapes(config), is_leaf=lambda x: isinstance(x, tuple))
        names = jax.tree.map(lambda axes: len(axes), param_axes(config), is_leaf=lambda x: isinstance(x, tuple))
        assert ranks == names


def test_bfloat16_runs_under_strict_promotion_and_is_near_float32():
    ids = tiny.ids(17)
    exact, short = tiny.engine("single").logits(ids), tiny.engine("single", dtype="bfloat16").logits(ids)
    assert short.dtype == np.float32
    assert np.isfinite(short).all()
    error = np.abs(short - exact).mean() / np.abs(exact).mean()
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize("spec", ["sequence:int8:site=x", "tensor:float32"])
def test_bfloat16_runs_by_every_strategy(spec):
    assert np.isfinite(tiny.engine(spec, 2, dtype="bfloat16").logits(tiny.ids(9))).all()


def long(scaling):
    return LlamaConfig(D=8, L=1, H=1, K=1, d=64, F=8, V=8, context=131072, rope_theta=500000.0, rope_scaling=scaling)


def test_scaled_rotation_keeps_short_waves_and_slows_long_ones():
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
    plain, scaled = rope_frequencies(long(None)).astype(float), rope_frequencies(long(scaling)).astype(float)
    assert plain.shape == (32,)
    np.testing.assert_allclose(plain, 500000.0 ** (-np.arange(0, 64, 2) / 64), rtol=1e-6)
    wavelength = 2 * np.pi / plain
    short, slow = wavelength < 8192 / 4, wavelength > 8192
    between = ~short & ~slow
    assert short.any()
    assert slow.any()
    assert between.any()
    np.testing.assert_allclose(scaled[short], plain[short], rtol=1e-6)
    np.testing.assert_allclose(scaled[slow], plain[slow] / 8, rtol=1e-6)
    blend = (8192 / wavelength[between] - 1) / (4 - 1)
    np.testing.assert_allclose(scaled[between], (1 - blend) * plain[between] / 8 + blend * plain[between], rtol=1e-6)
    assert (np.diff(scaled) < 0).all()
