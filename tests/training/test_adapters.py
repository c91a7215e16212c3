"""Low-rank adapters: of which matrices, that they begin as nothing, and what they add."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import Single
from thinwire.training.adapters import LoRA, init, matrices, merge, shapes, size_bytes

LORA = LoRA(rank=3, alpha=6.0)
MODELS = {**{family: tiny.model(family) for family in tiny.CONFIGS}, "vit": tiny_vit.model()}
ATTENTION = {"wq", "wk", "wv", "wo"}


def learnt(model, lora=LORA, seed=1):
    """An adapter that is not nothing any more."""
    tree = init(lora, jax.random.key(seed), FAMILIES[model.family], model.config)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + rng.standard_normal(x.shape, np.float32), tree)


@pytest.mark.parametrize("family", MODELS)
def test_an_adapter_begins_as_nothing_and_of_every_matrix(family):
    model, module = MODELS[family], FAMILIES[family]
    adapter = init(LORA, jax.random.key(0), module, model.config)
    mlp = {"w_gate", "w_up", "w_down"} if family == "llama" else {"w_up", "w_down"}
    assert adapter["layers"].keys() == ATTENTION | mlp
    assert jax.tree.map(jnp.shape, adapter) == shapes(LORA, module, model.config)
    assert {x.dtype for x in jax.tree.leaves(adapter)} == {jnp.dtype("float32")}
    merged = merge(model.params, adapter, LORA)
    assert jax.tree.structure(merged) == jax.tree.structure(model.params)
    jax.tree.map(np.testing.assert_array_equal, merged, model.params)
    down = np.asarray(adapter["layers"]["wq"]["down"])
    assert down.std() == pytest.approx(48**-0.5, rel=0.15)
    other = init(LORA, jax.random.key(1), module, model.config)
    assert not np.array_equal(other["layers"]["wq"]["down"], down)
    assert not np.array_equal(adapter["layers"]["wk"]["down"][..., 0], down[..., 0])


@pytest.mark.parametrize("family", MODELS)
def test_what_is_added_reads_inputs_and_makes_outputs(family):
    """Against the definition: the rows that a matrix reads, through ``down``, then ``up``, added to what it makes."""
    model, rng = MODELS[family], np.random.default_rng(0)
    adapter = learnt(model)
    merged = merge(model.params, adapter, LORA)
    products = {
        "wq": "td,dhe->the",
        "wk": "td,dhe->the",
        "wo": "the,hed->td",
        "w_up": "td,df->tf",
        "w_down": "tf,fd->td",
    }
    for name, product in products.items():
        low = jax.tree.map(np.asarray, adapter["layers"][name])
        weight = np.asarray(model.params["layers"][name])
        letters, of = product.split("->")[0].split(",")
        sizes = dict(zip(of, weight.shape[1:], strict=True))
        for layer in range(2):
            rows = rng.standard_normal([5, *(sizes[axis] for axis in letters[1:])], np.float32)
            added = 2.0 * (rows.reshape(5, -1) @ low["down"][layer] @ low["up"][layer])
            wanted = np.einsum(product, rows, weight[layer])
            wanted = wanted + added.reshape(wanted.shape)
            found = np.einsum(product, rows, np.asarray(merged["layers"][name][layer]))
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    for name, array in model.params["layers"].items():
        if name not in adapter["layers"]:
            assert merged["layers"][name] is array
    assert merged["layers"] is not model.params["layers"]


def test_a_small_change_of_a_coarse_weight_is_rounded_once():
    model = tiny.model()
    coarse = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), model.params)
    adapter = jax.tree.map(lambda x: 0.1 * x, learnt(model))
    merged = jax.jit(lambda params, adapter: merge(params, adapter, LORA))(coarse, adapter)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}
    fine = merge(jax.tree.map(lambda x: x.astype(jnp.float32), coarse), adapter, LORA)
    np.testing.assert_array_equal(merged["layers"]["wq"], fine["layers"]["wq"].astype(jnp.bfloat16))


def test_the_adapter_alone_is_learnt():
    """Of an adapter that is nothing yet, ``up`` has a gradient and ``down`` has none."""
    model, family = tiny.model(), FAMILIES["llama"]
    adapter = init(LORA, jax.random.key(0), family, model.config)
    target = jax.tree.map(lambda x: x + 1, model.params["layers"]["wo"])

    @jax.jit
    def loss(adapter):
        return jnp.sum(jnp.square(merge(model.params, adapter, LORA)["layers"]["wo"] - target))

    gradient = jax.grad(loss)(adapter)["layers"]["wo"]
    assert float(jnp.abs(gradient["up"]).max()) > 0
    assert float(jnp.abs(gradient["down"]).max()) == 0
    better = jax.tree.map(lambda x, g: x - 1e-3 * g, adapter, jax.grad(loss)(adapter))
    assert float(loss(better)) < float(loss(adapter))


def test_the_model_computes_with_it():
    model, ids_T = tiny.model(), tiny.ids(11)
    changed = jax.tree.map(np.asarray, merge(model.params, learnt(model), LORA))
    found = Engine(dataclasses.replace(model, params=changed), Single()).logits(ids_T)
    assert np.abs(found - tiny.single_logits(11)).max() > 0.1


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("attention",), ATTENTION),
        (("mlp",), {"w_gate", "w_up", "w_down"}),
        (("wq", "wv"), {"wq", "wv"}),
        (("wq", "mlp"), {"wq", "w_gate", "w_up", "w_down"}),
    ],
)
def test_targets(targets, names):
    found = matrices(LoRA(targets=targets), FAMILIES["llama"], tiny.CONFIG)
    assert found.keys() == names
    sizes = {"wq": (48, 72), "wo": (72, 48), "w_down": (100, 48), "wv": (48, 24)}
    assert all(found[name] == sizes[name] for name in names & sizes.keys())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank": 0}, "rank 0 adapts nothing; use at least 1"),
        ({"alpha": 0.0}, "alpha is 0.0; give a positive number"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"targets": ()}, "without targets adapts nothing; name some of attention, mlp"),
        ({"targets": ("atention",)}, "no target 'atention' in this model; there are attention, mlp, top, wq"),
        ({"targets": ("attn_norm",)}, "no target 'attn_norm'"),
        ({"rank": 25}, "rank 25 is more than wk has, which is 48 by 24; use at most 24, or leave wk out"),
    ],
)
def test_mistakes(settings, says):
    with pytest.raises(ThinwireError, match=says) as error:
        matrices(LoRA(**settings), FAMILIES["llama"], tiny.CONFIG)
    assert "\n" not in str(error.value)


def test_bytes():
    adapter = learnt(tiny.model(), LoRA(2, targets=("wq", "w_down")))
    values = 2 * 2 * (48 + 72 + 100 + 48)
    assert size_bytes(adapter) == 4 * values
    assert size_bytes(jax.eval_shape(lambda: jax.tree.map(lambda x: x.astype(jnp.float16), adapter))) == 2 * values


@pytest.mark.parametrize("family", ["vit", "gpt2"])
def test_what_is_outside_of_the_layers_can_change_whole(family):
    model, module = MODELS[family], FAMILIES[family]
    lora = dataclasses.replace(LORA, targets=("wq", "top"))
    adapter = init(lora, jax.random.key(0), module, model.config)
    top = model.params.keys() - {"layers"}
    assert adapter.keys() == {*top, "layers"}
    assert jax.tree.map(jnp.shape, adapter) == shapes(lora, module, model.config)
    jax.tree.map(np.testing.assert_array_equal, merge(model.params, adapter, lora), model.params)
    adapter["final_norm"] = adapter["final_norm"] + 0.5
    merged = merge(model.params, adapter, lora)
    np.testing.assert_allclose(merged["final_norm"], model.params["final_norm"] + 0.5, rtol=1e-6)
    for name in top - {"final_norm"}:
        np.testing.assert_array_equal(merged[name], model.params[name])
