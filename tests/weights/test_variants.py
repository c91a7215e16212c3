"""Pretrained vision Transformers cut for other images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.errors import ThinwireError
from thinwire.models import vit
from thinwire.weights.load import load_model
from thinwire.weights.variants import variant, variant_sha256

MODEL = tiny_vit.model()  # patches of 3 by 3 by 3, a grid of 4 by 5, 2 layers


def made(options, model=MODEL):
    config, params = variant(model.config, model.params, options)
    shapes = jax.tree.map(np.shape, params)
    assert shapes == vit.param_shapes(config)
    return dataclasses.replace(model, config=config, params=params)


def features(model, rows_TP, params=None):
    return vit.features(jax.tree.map(jnp.asarray, params or model.params), model.config, rows_TP)


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_a_small_grey_patch_is_embedded_as_itself_enlarged(patch):
    """Against JAX's own enlarging of each patch, which is then given to all three colours."""
    small_BYX = np.random.default_rng(0).standard_normal((7, patch, patch), np.float32)
    large_BYX = np.asarray(jax.image.resize(small_BYX, (7, 3, 3), "linear"))
    want_BD = np.tile(large_BYX.reshape(7, 9), 3) @ MODEL.params["patch"]
    got_BD = small_BYX.reshape(7, -1) @ made(f"patch={patch}:side={2 * patch}:colours=1").params["patch"]
    np.testing.assert_allclose(got_BD, want_BD, rtol=2e-5, atol=2e-5)


def test_fewer_layers_are_the_first_ones():
    one = made("layers=1")
    rows_TP = jnp.asarray(tiny_vit.image())
    # A model whose second layer adds nothing.
    scales = {name: MODEL.params["layers"][name] * np.float32([[1], [0]]) for name in ("attn_scale", "mlp_scale")}
    silent = {**MODEL.params, "layers": {**MODEL.params["layers"], **scales}}
    np.testing.assert_allclose(features(one, rows_TP), features(MODEL, rows_TP, silent), rtol=1e-5, atol=1e-5)


def test_a_new_head_prefers_no_class():
    new = made("classes=4")
    found_TD = features(new, jnp.asarray(tiny_vit.image()))
    assert vit.classify(new.params, np.asarray(found_TD)).tolist() == [0, 0, 0, 0]


def test_images_of_another_size_have_other_positions():
    config = made("side=9").config
    assert (config.grid, config.patch, config.tokens) == ((3, 3), 3, 10)


def test_the_order_of_options_changes_nothing():
    assert variant_sha256("a", "patch=2:layers=1") == variant_sha256("a", "layers=1:patch=2")
    hashes = {variant_sha256(*x) for x in (("a", "layers=1"), ("a", "layers=2"), ("b", "layers=1"), ("a", "patch=1"))}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("layer=1", "'layer=1' is no change"),
        ("layers=0", "is no change"),
        ("layers", "is no change"),
        ("layers=1:layers=2", "'layers=2' is no change"),
        ("layers=3", "more than the model has, 2 layers"),
        ("patch=4", "patches of 3 pixels"),
        ("colours=2", "reads 3 colours and not 2"),
        ("patch=2:side=9", "Images of 9 pixels cannot be cut into patches of 2"),
    ],
)
def test_impossible_changes_are_refused(options, said):
    with pytest.raises(ThinwireError, match=said):
        made(options)


def test_models_of_text_are_not_changed():
    model = tiny.model()
    with pytest.raises(ThinwireError, match="for vision Transformers only"):
        variant(model.config, model.params, "layers=1")


@pytest.mark.weights
def test_a_variant_has_a_name_of_its_own():
    whole, some = load_model("vit-s14-focus"), load_model("vit-s14-focus:layers=2:patch=7:side=28:colours=1:classes=10")
    assert (some.config.L, some.config.tokens, some.config.values, some.config.classes) == (2, 17, 49, 10)
    assert some.sha256 != whole.sha256
    assert np.array_equal(some.params["layers"]["wq"], whole.params["layers"]["wq"][:2])
