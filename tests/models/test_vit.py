import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_vit
from thinwire.errors import ThinwireError
from thinwire.models import vit
from thinwire.models.vit_config import param_axes, param_shapes
from thinwire.models.vit_positions import nearest_grid, resized
from thinwire.strategies.base import Setting
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import make_mesh, put

TOLERANCE = 1e-5


def numpy_stem(p, config, row_P):
    """The two convolutions of one window, place by place."""
    x_YXC = row_P.reshape(config.channels, config.window, config.window).transpose(1, 2, 0)
    for name in ("stem_in", "stem_out"):
        side = (len(x_YXC) - 3) // 2 + 1
        kernel_yxCO = p[name].reshape(3, 3, x_YXC.shape[2], -1)
        out = np.empty((side, side, kernel_yxCO.shape[3]))
        for y, x in np.ndindex(side, side):
            field_yxC = x_YXC[2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            out[y, x] = np.maximum(np.einsum("yxc,yxco->o", field_yxC, kernel_yxCO) + p[name + "_bias"], 0)
        x_YXC = out
    return x_YXC.reshape(-1)


def numpy_vit(params, config, rows_TP):
    """A vision Transformer once more, in float64 and loops, from the formulas."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    erf = np.vectorize(math.erf)

    def norm(x, gain, bias):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.norm_eps) * gain + bias

    seen_TP = np.stack([numpy_stem(p, config, row_P) for row_P in rows_TP[1:]]) if config.stem else rows_TP[1:]
    x = np.concatenate([p["class_token"][None], seen_TP @ p["patch"] + p["patch_bias"]]) + p["positions"]
    for layer in range(config.L):
        w = {name: array[layer] for name, array in p["layers"].items()}
        scale = lambda name, w=w: w.get(name, 1.0)
        h = norm(x, w["attn_norm"], w["attn_norm_bias"])
        out = np.zeros_like(x) + w["bo"]
        for head in range(config.H):
            q, k, v = (h @ w[f"w{n}"][:, head] + w[f"b{n}"][head] for n in "qkv")
            score = np.exp(q @ k.T / np.sqrt(config.d))
            out += score / score.sum(-1, keepdims=True) @ v @ w["wo"][head]
        x = x + scale("attn_scale") * out
        up = norm(x, w["mlp_norm"], w["mlp_norm_bias"]) @ w["w_up"] + w["b_up"]
        x = x + scale("mlp_scale") * (up * (1 + erf(up / np.sqrt(2))) / 2 @ w["w_down"] + w["b_down"])
    return norm(x, p["final_norm"], p["final_norm_bias"])


@pytest.mark.parametrize("changes", [{}, {"layer_scale": False, "classes": 0, "H": 3, "L": 1}, {"stem": 4}])
def test_equals_an_independent_numpy_vit(changes):
    model = tiny_vit.model(**changes)
    image_TP = tiny_vit.image(config=model.config)
    found = jax.jit(vit.features, static_argnums=1)(model.params, model.config, image_TP)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, numpy_vit(model.params, model.config, image_TP), atol=1e-4)


def test_convolutions_see_beyond_the_edges_of_a_patch_but_no_further():
    config = tiny_vit.model(stem=4).config
    image_YXC = np.random.default_rng(0).standard_normal((12, 15, 3), np.float32)
    rows_TP = vit.patches(image_YXC, config.patch, config.margin)
    assert rows_TP.shape == (config.tokens, config.values)
    inner = rows_TP.reshape(-1, 3, 11, 11)[:, :, 4:-4, 4:-4]
    np.testing.assert_array_equal(inner.reshape(len(inner), -1), vit.patches(image_YXC, config.patch))
    image_YXC[:, 7:] += 1  # beyond the windows of the first column of patches, which end behind pixel 6
    changed_T = (rows_TP != vit.patches(image_YXC, config.patch, config.margin)).any(axis=1)
    assert not changed_T[1::5].any()
    assert changed_T[2::5].all()


# (strategy, devices, split)
EXACT = [
    ("sequence:float32:class_tokens=one", 5, None),
    ("sequence:float32:class_tokens=each:site=x", 3, (1.0, 4.0, 2.0)),
    ("sequence:float32:class_tokens=each:layout=zigzag:site=norm", 3, None),
    ("ring:float32:class_tokens=each:chunks=2", 5, None),
    ("tensor:float32", 5, None),
]


@pytest.mark.parametrize(("spec", "devices", "split"), EXACT)
def test_exact_strategies_equal_the_single_device(spec, devices, split):
    found = tiny_vit.engine(spec, devices, split).logits(tiny_vit.image())
    np.testing.assert_allclose(found, tiny_vit.single_features(), atol=TOLERANCE)


@pytest.mark.parametrize("spec", ["sequence:float32:class_tokens=each", "ring:float32:class_tokens=each"])
def test_on_one_device_nothing_changes(spec):
    np.testing.assert_array_equal(tiny_vit.engine(spec).logits(tiny_vit.image()), tiny_vit.single_features())


@pytest.mark.parametrize(
    ("spec", "devices", "split"),
    [
        ("ring:int8:class_tokens=one:chunks=2", 3, None),
        ("sequence:pvq:groups=6:size=16:rank=0", 3, (1.0, 2.0, 1.0)),
        ("tensor:int8", 3, None),
    ],
)
def test_a_mesh_equals_virtual_devices_and_sends_what_the_formula_says(spec, devices, split):
    """Three witnesses of the bytes, and one result: only payloads cross, in every layer."""
    virtual = tiny_vit.engine(spec, devices, split).logits(tiny_vit.image())
    engine = tiny_vit.engine(spec, make_mesh(devices), split)
    lowered, ledger = engine.lower(tiny_vit.TOKENS, "all")
    program = lowered.compile()
    rows_TP = put(tiny_vit.image(), engine.where, False)
    real_NRD = np.asarray(program(engine._params, engine._codecs, rows_TP)["logits"])
    joined = engine.strategy.join(Setting(engine.dims, engine.layout(tiny_vit.TOKENS)), real_NRD)
    np.testing.assert_allclose(joined, virtual, atol=TOLERANCE)
    sent = engine.traffic(tiny_vit.TOKENS).bytes_by_device
    assert ledger.bytes_by_device() == sent
    assert sorted(ledger.by_layer()) == list(range(tiny_vit.CONFIG.L))  # patches are not known: layer 0 is sent too
    assert audit_hlo(program.as_text()).bytes_by_device() == sent


def test_flax_module_is_the_pure_functions():
    model = tiny_vit.model()
    module, rows_TP = vit.ViT(model.config), jnp.asarray(tiny_vit.image())
    variables = jax.eval_shape(module.init, jax.random.key(0), rows_TP)
    assert jax.tree.map(lambda x: x.shape, variables["params"]) == param_shapes(model.config)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    begun = jax.jit(module.init)(jax.random.key(0), rows_TP)["params"]
    assert (np.asarray(begun["layers"]["attn_scale"]) == 1).all()
    assert (np.asarray(begun["layers"]["bq"]) == 0).all()
    assert 0.015 < np.asarray(begun["layers"]["wq"]).std() < 0.025
    applied = jax.jit(module.apply)({"params": jax.tree.map(jnp.asarray, model.params)}, rows_TP)
    np.testing.assert_allclose(applied, tiny_vit.single_features(), atol=1e-6)


def test_every_axis_has_a_name():
    for changes in ({}, {"layer_scale": False, "classes": 0}):
        config = tiny_vit.model(**changes).config
        is_tuple = lambda x: isinstance(x, tuple)
        ranks = jax.tree.map(len, param_shapes(config), is_leaf=is_tuple)
        assert ranks == jax.tree.map(len, param_axes(config), is_leaf=is_tuple)


def test_bfloat16_runs_under_strict_promotion_and_is_near_float32():
    found = tiny_vit.engine("sequence:int8", 2, dtype="bfloat16").logits(tiny_vit.image())
    assert found.dtype == np.float32
    error = np.abs(found - tiny_vit.single_features()).mean() / np.abs(tiny_vit.single_features()).mean()
    assert 1e-4 < error < 0.1


def test_the_head_is_on_the_class_token():
    model, features_TD = tiny_vit.model(), tiny_vit.single_features()
    expected = features_TD[0].astype(float) @ model.params["head"] + model.params["head_bias"]
    np.testing.assert_allclose(vit.classify(model.params, features_TD), expected, atol=1e-4)
    with pytest.raises(ThinwireError, match="no classification head"):
        vit.classify(tiny_vit.model(classes=0).params, features_TD)


def test_patches_are_cut_row_by_row_and_hold_channels_first():
    image_YXC = np.arange(5 * 8 * 2, dtype=np.float32).reshape(5, 8, 2)
    rows_TP = vit.patches(image_YXC, 2)
    assert rows_TP.shape == (1 + 2 * 4, 8)  # the fifth line of pixels fills no patch
    assert (rows_TP[0] == 0).all()
    np.testing.assert_array_equal(rows_TP[1 + 4 + 2], image_YXC[2:4, 4:6].transpose(2, 0, 1).reshape(-1))
    with pytest.raises(ThinwireError, match=r"shape \(1, 8, 2\) is no image"):
        vit.patches(image_YXC[:1], 2)
    with pytest.raises(ThinwireError, match=r"reads 21 rows of 27 values, of an image of 12 by 15 pixels"):
        tiny_vit.engine("single").logits(tiny_vit.image()[:-1])


@pytest.mark.parametrize(("count", "grid"), [(196, (14, 14)), (1023, (31, 33)), (37, (1, 37)), (20, (4, 5))])
def test_the_most_nearly_square_grid(count, grid):
    assert nearest_grid(count) == grid


def test_resized_positions():
    """A plane stays about a plane (but at the edge, which is repeated), and the class token keeps its own."""
    model = tiny_vit.model(grid=(8, 6))
    y, x = np.mgrid[:8, :6].astype(np.float32)
    plane_YXD = y[..., None] + 10 * x[..., None] + np.zeros(48, np.float32)
    positions = np.concatenate([model.params["positions"][:1], plane_YXD.reshape(-1, 48)])
    config, params = resized(model.config, {**model.params, "positions": positions}, (16, 3))
    assert config.grid == (16, 3)
    assert config.tokens == 49
    np.testing.assert_array_equal(params["positions"][0], positions[0])
    found = params["positions"][1:].reshape(16, 3, 48)[..., 0]
    expected = (np.arange(16)[:, None] + 0.5) / 2 - 0.5 + 10 * (2 * np.arange(3) + 0.5)
    np.testing.assert_allclose(found[4:12, 1], expected[4:12, 1], atol=0.1)  # PyTorch's kernel is not quite linear
    assert found.dtype == np.float32
    assert params["layers"] is model.params["layers"]
    assert resized(model.config, model.params, (8, 6)) == (model.config, model.params)
