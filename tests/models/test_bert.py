import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.models import bert
from thinwire.models.bert_config import param_axes, param_shapes


def numpy_bert(params, config, ids):
    """BERT once more, in float64 and loops, from the formulas."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, gain, bias):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * gain + bias

    x = p["embed"][ids] + p["positions"][: len(ids)] + p["types"][0]
    x = norm(x, p["embed_norm"], p["embed_norm_bias"])
    for layer in range(config.L):
        w = {name: array[layer] for name, array in p["layers"].items()}
        out = np.zeros_like(x)
        for head in range(config.H):
            q, k, v = (x @ w[f"w{which}"][:, head] + w[f"b{which}"][head] for which in "qkv")
            for t in range(len(ids)):
                score = k @ q[t] / np.sqrt(config.d)
                weight = np.exp(score - score.max())
                out[t] += (weight / weight.sum()) @ v @ w["wo"][head]
        x = norm(x + out + w["bo"], w["attn_norm"], w["attn_norm_bias"])
        h = x @ w["w_up"] + w["b_up"]
        h = h / 2 * (1 + np.vectorize(math.erf)(h / np.sqrt(2)))
        x = norm(x + h @ w["w_down"] + w["b_down"], w["mlp_norm"], w["mlp_norm_bias"])
    return x


def test_equals_an_independent_numpy_bert():
    model, ids = tiny.model("bert"), tiny.ids(11)
    found = tiny.engine("single", family="bert").logits(ids)
    assert found.shape == (11, 48)
    np.testing.assert_allclose(found, numpy_bert(model.params, model.config, ids), atol=1e-5)


def test_every_axis_has_a_name():
    config = tiny.CONFIGS["bert"]
    ranks = jax.tree.map(lambda shape: len(shape), param_shapes(config), is_leaf=lambda x: isinstance(x, tuple))
    names = jax.tree.map(lambda axes: len(axes), param_axes(config), is_leaf=lambda x: isinstance(x, tuple))
    assert ranks == names


def test_flax_module_is_the_pure_functions():
    model, ids = tiny.model("bert"), jnp.asarray(tiny.ids(9))
    module = bert.Bert(model.config)
    variables = jax.eval_shape(module.init, jax.random.key(0), ids)
    assert jax.tree.map(lambda x: x.shape, variables["params"]) == param_shapes(model.config)
    ours = jax.tree.map(jnp.asarray, model.params)
    applied = jax.jit(module.apply)({"params": ours}, ids)
    np.testing.assert_allclose(applied, tiny.engine("single", family="bert").logits(np.asarray(ids)), atol=1e-6)


@pytest.mark.parametrize("spec", ["sequence:float32", "sequence:int8:site=kv"])
def test_every_token_reaches_every_other_across_devices(spec):
    engine, ids = tiny.engine(spec, 3, family="bert"), tiny.ids(13)
    before = engine.logits(ids)
    for at in (0, 12):
        changed = ids.copy()
        changed[at] = (changed[at] + 7) % 64
        assert (engine.logits(changed) != before).any(axis=1).all()


def test_it_continues_nothing():
    with pytest.raises(ThinwireError, match="tiny reads a whole input at once and continues nothing") as error:
        list(tiny.engine("single", family="bert").generate(tiny.ids(5), 1))
    assert "\n" not in str(error.value)


def test_a_sink_is_refused_where_token_0_sees_all_others():
    with pytest.raises(ThinwireError, match="only a causal model allows"):
        tiny.engine("sequence:int8:sink=1", 3, family="bert").logits(tiny.ids())


def test_bfloat16_runs_under_strict_promotion():
    found = tiny.engine("sequence:int8:site=x", 2, dtype="bfloat16", family="bert").logits(tiny.ids(9))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
