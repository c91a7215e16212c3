"""Steps of training: they learn, and are the same however the work is cut and wherever it runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.training import loop
from thinwire.training.adapters import LoRA
from thinwire.training.loop import Pace
from thinwire.training.place import Place
from thinwire.training.recipe import Recipe
from thinwire.training.trainable import low_rank, nothing
from thinwire.wire.spmd import make_mesh
from training_setups import image_setup, images, largest_difference, state_of, text_setup, texts

VQ = "sequence:vq:groups=4:size=16"


def losses(setup, batches, place=None, parts=1, steps=None, batch=4):
    """The loss of every step, and the last state."""
    seen = []
    pace = Pace(batch=batch, parts=parts, log_every=0, save_every=0)
    note = lambda step, record: seen.append(record["loss"])
    state = loop.run(setup, state_of(setup), batches, pace, place, progress=note, stop=steps)
    return np.asarray(seen), state


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("single", devices=(1,), noise=0.0),
        Recipe(VQ, devices=(2,)),
        pytest.param(Recipe(VQ, devices=(2, 3), splits=1), marks=pytest.mark.thorough),
        pytest.param(
            Recipe("sequence:pvq:groups=4:size=16:rank=8", devices=(2,), codebooks="gradient", noise=0.0),
            marks=pytest.mark.thorough,
        ),
    ],
    ids=lambda recipe: recipe.strategy,
)
def test_text_is_learnt(recipe):
    setup = text_setup(recipe, steps=25, rate=3e-3)
    always = texts(setup)(0)
    found, state = losses(setup, lambda step: always)
    assert found[-3:].mean() < 0.8 * found[:3].mean()
    assert int(state.step) == 25


@pytest.mark.thorough
def test_images_are_learnt_with_a_class_token_on_each_device():
    setup = image_setup(Recipe(VQ, devices=(3,), covariance="full"), steps=30, rate=3e-3)
    found, _ = losses(setup, images(setup, 16), batch=16)
    assert found[-3:].mean() < 0.8 * found[:3].mean()


@pytest.mark.thorough
def test_parts_one_after_another_are_one_batch():
    setup = text_setup(Recipe(VQ, devices=(2,), noise=0.0))
    whole, a = losses(setup, texts(setup), steps=3)
    cut, b = losses(setup, texts(setup), parts=2, steps=3)
    np.testing.assert_allclose(cut, whole, rtol=1e-5)
    assert largest_difference(a.params, b.params) < 1e-5
    assert largest_difference(a.codecs, b.codecs) < 1e-4


@pytest.mark.thorough
@pytest.mark.parametrize("spread", ["examples", "tokens"])
def test_a_mesh_trains_as_virtual_devices_do(spread):
    setup = text_setup(Recipe(VQ, devices=(4,)))
    here, a = losses(setup, texts(setup), steps=4)
    there, b = losses(setup, texts(setup), Place(make_mesh(4), spread), steps=4)
    np.testing.assert_allclose(there, here, rtol=1e-5)
    assert largest_difference(a.codecs, b.codecs) < 1e-4
    assert largest_difference(a.averages, b.averages) < 1e-3


@pytest.mark.thorough
def test_layers_computed_again_give_the_same_gradients():
    recipe = Recipe(VQ, devices=(2,))
    kept, a = losses(text_setup(recipe), texts(text_setup(recipe)), steps=2)
    again, b = losses(text_setup(recipe, remat=True), texts(text_setup(recipe)), steps=2)
    np.testing.assert_allclose(again, kept, rtol=1e-5)
    assert largest_difference(a.params, b.params) < 1e-5


@pytest.mark.thorough
def test_bfloat16_is_near_float32_and_what_is_trained_stays_float32():
    recipe = Recipe(VQ, devices=(2,), noise=0.0)
    exact, _ = losses(text_setup(recipe), texts(text_setup(recipe)), steps=2)
    rough, state = losses(text_setup(recipe, dtype="bfloat16"), texts(text_setup(recipe)), steps=2)
    np.testing.assert_allclose(rough, exact, rtol=0.05)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}


@pytest.mark.thorough
def test_a_teacher_of_the_same_weights_has_nothing_to_say_at_first():
    setup = text_setup(Recipe("sequence:float32", devices=(3,), distil=1.0, attention=1.0, noise=0.0))
    found, _ = losses(setup, texts(setup), steps=1)
    assert abs(found[0]) < 1e-4
    coarse = text_setup(Recipe(VQ, devices=(3,), distil=1.0, attention=1.0, noise=0.0, commitment=0.0))
    found, _ = losses(coarse, texts(coarse), steps=1)
    assert found[0] > 0.01


@pytest.mark.thorough
def test_adapters_learn_and_the_rest_stays():
    recipe = Recipe(VQ, devices=(2,))
    trainable = low_rank(tiny.model(), LoRA(rank=2))
    setup = text_setup(recipe, trainable=trainable, steps=25, rate=1e-2)
    always = texts(setup)(0)
    found, state = losses(setup, lambda step: always)
    assert found[-3:].mean() < 0.95 * found[:3].mean()
    assert set(state.params["model"]["layers"]["wq"]) == {"down", "up"}


@pytest.mark.thorough
def test_codebooks_alone_can_be_learnt():
    setup = text_setup(Recipe(VQ, devices=(2,), noise=0.0, commitment=1.0), trainable=nothing(tiny.model()), steps=30)
    seen = []
    pace = Pace(batch=4, log_every=0, save_every=0)
    start = state_of(setup)
    note = lambda step, record: seen.append(record["commitment"])
    state = loop.run(setup, start, texts(setup), pace, progress=note)
    assert state.params["model"] == {}
    assert np.mean(seen[-5:]) < 0.95 * np.mean(seen[:3])


@pytest.mark.thorough
def test_noise_rises():
    setup = text_setup(Recipe(VQ, devices=(2,), noise=1.0, noise_warmup=1000))
    quiet = text_setup(Recipe(VQ, devices=(2,), noise=0.0))
    loud = text_setup(Recipe(VQ, devices=(2,), noise=1.0))
    of = lambda setup: losses(setup, texts(setup), steps=2)[0][1]  # in the first step nothing is known of residuals
    assert abs(of(setup) - of(quiet)) < 0.1 * abs(of(loud) - of(quiet))


def test_the_end_of_a_loss_names_the_layer():
    setup = text_setup(Recipe(VQ, devices=(2,)))
    state = state_of(setup)
    layers = dict(state.params["model"]["layers"])
    layers["w_down"] = jnp.asarray(layers["w_down"]).at[0].set(jnp.nan)
    broken = state._replace(params={**state.params, "model": {**state.params["model"], "layers": layers}})
    with pytest.raises(ThinwireError, match="enters layer 1 is not finite"):
        loop.run(setup, broken, texts(setup), Pace(batch=4))


def test_what_cannot_be_spread_is_said_first():
    setup = text_setup(Recipe(VQ, devices=(2,)))
    with pytest.raises(ThinwireError, match="batch of 2 cannot be spread evenly over 4"):
        loop.run(setup, state_of(setup), texts(setup, 2), Pace(batch=2), Place(make_mesh(4)))
    with pytest.raises(ThinwireError, match="mesh of 4 devices"):
        loop.run(setup, state_of(setup), texts(setup), Pace(batch=4), Place(make_mesh(4), "tokens"))
    with pytest.raises(ThinwireError, match="batch of 5 cannot be cut into 2"):
        Pace(batch=5, parts=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strategy": "ring"}, "ring is not trained"),
        ({"devices": ()}, "name one or more"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"decay": 1.5}, "decay is 1.5"),
        ({"strategy": "single"}, "runs on one device"),
        ({"devices": (1,)}, "sends nothing to train for"),
        ({"statistics": 0}, "at least 1 row"),
    ],
)
def test_recipes_that_cannot_be(change, said):
    with pytest.raises(ThinwireError, match=said):
        dataclasses.replace(Recipe(), **change)
