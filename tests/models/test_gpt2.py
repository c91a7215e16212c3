import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.models import gpt2
from thinwire.models.gpt2_config import param_axes, param_shapes


def numpy_gpt2(params, config, ids):
    """GPT-2 once more, in float64 and loops, from the formulas."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, gain, bias):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * gain + bias

    x = p["embed"][ids] + p["positions"][: len(ids)]
    for layer in range(config.L):
        w = {name: array[layer] for name, array in p["layers"].items()}
        h = norm(x, w["attn_norm"], w["attn_norm_bias"])
        out = np.zeros_like(x)
        for head in range(config.H):
            q, k, v = (h @ w[f"w{which}"][:, head] + w[f"b{which}"][head] for which in "qkv")
            for t in range(len(ids)):
                score = k[: t + 1] @ q[t] / np.sqrt(config.d)
                weight = np.exp(score - score.max())
                out[t] += (weight / weight.sum()) @ v[: t + 1] @ w["wo"][head]
        x = x + out + w["bo"]
        h = norm(x, w["mlp_norm"], w["mlp_norm_bias"]) @ w["w_up"] + w["b_up"]
        h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + h @ w["w_down"] + w["b_down"]
    return norm(x, p["final_norm"], p["final_norm_bias"]) @ p["embed"].T


def test_equals_an_independent_numpy_gpt2():
    model, ids = tiny.model("gpt2"), tiny.ids(11)
    found = tiny.engine("single", family="gpt2").logits(ids)
    np.testing.assert_allclose(found, numpy_gpt2(model.params, model.config, ids), atol=1e-4)


def test_every_axis_has_a_name():
    config = tiny.CONFIGS["gpt2"]
    ranks = jax.tree.map(lambda shape: len(shape), param_shapes(config), is_leaf=lambda x: isinstance(x, tuple))
    names = jax.tree.map(lambda axes: len(axes), param_axes(config), is_leaf=lambda x: isinstance(x, tuple))
    assert ranks == names


def test_flax_module_is_the_pure_functions():
    model, ids = tiny.model("gpt2"), jnp.asarray(tiny.ids(9))
    module = gpt2.GPT2(model.config)
    variables = jax.eval_shape(module.init, jax.random.key(0), ids)
    assert jax.tree.map(lambda x: x.shape, variables["params"]) == param_shapes(model.config)
    ours = jax.tree.map(jnp.asarray, model.params)
    applied = jax.jit(module.apply)({"params": ours}, ids)
    np.testing.assert_allclose(applied, tiny.engine("single", family="gpt2").logits(np.asarray(ids)), atol=1e-6)


def test_later_tokens_do_not_reach_earlier_ones_even_through_codes():
    engine, ids = tiny.engine("sequence:int8:site=kv", 3, family="gpt2"), tiny.ids(23)
    before = engine.logits(ids)
    changed = ids.copy()
    changed[9:] = (changed[9:] + 7) % 64
    after = engine.logits(changed)
    np.testing.assert_array_equal(after[:9], before[:9])
    assert (after[9:] != before[9:]).any(axis=1).all()


def test_the_same_token_elsewhere_is_another_input():
    """Positions are what enters layer 0, for codecs that predict from it too."""
    model = tiny.model("gpt2")
    params = {name: jnp.asarray(model.params[name]) for name in ("embed", "positions")}
    x_TD = gpt2.embed(params, model.config, jnp.array([5, 5]), jnp.array([0, 3]))
    expected = model.params["embed"][5] + model.params["positions"][np.array([0, 3])]
    np.testing.assert_allclose(x_TD, expected, atol=1e-6)


def test_generation_after_several_devices_equals_the_single_device():
    alone = list(tiny.engine("single", family="gpt2").generate(tiny.ids(), 4))
    several = list(tiny.engine("sequence:float32", 3, family="gpt2").generate(tiny.ids(), 4))
    assert len(alone) == 4
    assert several == alone


def test_no_further_than_the_positions_that_were_learnt():
    with pytest.raises(ThinwireError, match="65 tokens and tiny reads at most 64"):
        tiny.engine("single", family="gpt2").logits(tiny.ids(65))
    with pytest.raises(ThinwireError, match="more than the 64 that tiny reads"):
        list(tiny.engine("single", family="gpt2").generate(tiny.ids(60), 5))
