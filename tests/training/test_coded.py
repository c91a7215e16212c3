"""The strategy of training sees what the strategy of use sees, and lets gradients through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.kernels.choice import using
from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Single, parse_strategy
from thinwire.training.averages import in_training
from thinwire.training.coded import NOISE, TrainingSequence, trained
from thinwire.wire.spmd import spmd


def forward(model, strategy, layout, codecs, inputs_T, where=None):
    """Rows of the layout of all devices (N, R, D), as a function of weights, and what layers emit."""
    family = FAMILIES[model.family]
    setting = Setting(family.dims(model.config), layout)

    def local(params, codecs, inputs_T):
        position_R = strategy.positions(setting)
        rows = inputs_T[jnp.minimum(position_R, len(inputs_T) - 1)]
        with using("jax"):
            return family.forward(params, model.config, rows, position_R, strategy, setting, codecs, prompt=inputs_T)

    run = spmd(local, where or layout.devices, (False, False, False))
    return lambda params: run(jax.tree.map(jnp.asarray, params), codecs, inputs_T)


def case(spec, family, devices, split):
    strategy = parse_strategy(spec)
    if family == "vit":
        model, inputs = tiny_vit.model(), jnp.asarray(tiny_vit.image())
        dims = FAMILIES["vit"].dims(model.config)
        codecs = tiny_vit.codebooks(strategy, dims)
    else:
        model, inputs = tiny.model(family), jnp.asarray(tiny.ids())
        dims = tiny.dims(family)
        codecs = tiny.codebooks(strategy, dims)
    layout = strategy.layout(dims, len(inputs), devices, split)
    return model, strategy, layout, in_training(strategy.codec, codecs), inputs


@pytest.mark.parametrize(
    ("spec", "family", "devices", "split"),
    [
        ("sequence:vq:groups=4:size=16", "llama", 3, None),
        pytest.param("sequence:vq:groups=4:size=16:site=x", "llama", 2, (3.0, 1.0), marks=pytest.mark.thorough),
        ("sequence:pvq:groups=4:size=16:rank=8", "llama", 4, None),
        pytest.param("sequence:int4", "gpt2", 3, (1.0, 2.0, 1.0), marks=pytest.mark.thorough),
        ("sequence:means:length=3", "bert", 3, None),
        pytest.param("sequence:vq:groups=4:size=16:layout=zigzag", "llama", 2, None, marks=pytest.mark.thorough),
        ("sequence:vq:groups=4:size=16", "vit", 3, None),
        ("sequence:vq:groups=4:size=16:class_tokens=one:site=norm", "vit", 4, (1.0, 2.0, 1.0, 1.0)),
    ],
)
def test_rows_are_those_of_the_strategy_in_use(spec, family, devices, split):
    model, strategy, layout, codecs, inputs = case(spec, family, devices, split)
    used, _ = forward(model, strategy, layout, codecs, inputs)(model.params)
    learnt, emitted = forward(model, trained(strategy), layout, codecs, inputs)(model.params)
    np.testing.assert_allclose(learnt[:, layout.shared :][layout.valid_NR], used[:, layout.shared :][layout.valid_NR],
                               rtol=1e-4, atol=1e-4)  # fmt: skip
    assert emitted["finite"].all()


def test_exact_codes_give_the_gradient_of_the_single_device():
    model, strategy, layout, codecs, inputs = case("sequence:float32", "llama", 3, None)

    def loss(run, layout):
        aim = jnp.asarray(np.random.default_rng(0).standard_normal((tiny.TOKENS, tiny.CONFIG.D), np.float32))
        device_T, row_T = layout.places
        return lambda params: jnp.sum(run(params)[0][device_T, row_T] * aim)

    params = jax.tree.map(jnp.asarray, model.params)
    split = jax.grad(loss(forward(model, trained(strategy), layout, codecs, inputs), layout))(params)
    alone = Single().layout(tiny.dims(), tiny.TOKENS, 1, None)
    whole = jax.grad(loss(forward(model, trained(Single()), alone, {}, inputs, 1), alone))(params)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole))
    for a, b in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * scale)


@pytest.mark.parametrize(
    "spec",
    [
        "sequence:vq:groups=4:size=16",
        pytest.param("sequence:pvq:groups=4:size=16:rank=8", marks=pytest.mark.thorough),
    ],
)
def test_gradients_pass_codes_to_the_rows_that_they_stand_for(spec):
    model, strategy, layout, codecs, inputs = case(spec, "llama", 2, None)
    run = forward(model, trained(strategy), layout, codecs, inputs)
    of_device_1 = set(np.asarray(inputs)[layout.places[0] == 1].tolist())
    first = next(int(token) for token in inputs[2:] if int(token) not in of_device_1)

    def loss(embed_D):
        params = {**model.params, "embed": jnp.asarray(model.params["embed"]).at[first].set(embed_D)}
        return jnp.sum(run(params)[0][1] ** 2)

    assert float(jnp.abs(jax.grad(loss)(jnp.asarray(model.params["embed"][first]))).max()) > 0


def test_only_what_is_asked_for_gets_gradients():
    model, strategy, layout, codecs, inputs = case("sequence:vq:groups=4:size=16", "llama", 2, None)

    def gradient(**options):
        step = trained(strategy, **options)
        loss = lambda codecs: jnp.sum(forward(model, step, layout, codecs, inputs)(model.params)[0] ** 2)
        return jax.grad(loss)(codecs)["kv"]["codebook"]

    assert float(jnp.abs(gradient()).max()) == 0
    assert float(jnp.abs(gradient(by_gradient=True)).max()) > 0


def test_what_is_emitted_adds_up():
    model, strategy, layout, codecs, inputs = case("sequence:vq:groups=4:size=16", "llama", 3, None)
    _, emitted = forward(model, trained(strategy), layout, codecs, inputs)(model.params)
    coded = emitted["coded"]
    residual = np.asarray(coded["residual"])
    assert residual.shape == (3, 2, layout.rows, 2 * 3 * 8)
    squares = (residual**2).sum(axis=-1) * np.asarray(coded["valid"])
    np.testing.assert_allclose(squares.sum(axis=-1), coded["commitment"], rtol=1e-5)
    np.testing.assert_allclose(coded["codebook"], coded["commitment"], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(coded["valid"])[:, 0] == 1, layout.valid_NR)
    book = codecs["kv"]["codebook"][0]
    seen = np.asarray(coded["quantised"])[:, 0] - residual[:, 0]
    flat = seen[layout.valid_NR].reshape(-1, 4, 12)
    distance = np.abs(flat[:, :, None] - np.asarray(book)[None]).max(axis=-1).min(axis=-1)
    assert distance.max() < 1e-4  # every decoded row is made of codewords


def test_noise_is_that_of_the_given_distribution_and_of_every_device_its_own():
    model, strategy, layout, codecs, inputs = case("sequence:float32", "llama", 2, None)
    noisy = TrainingSequence(codec=strategy.codec, noisy=True)
    dims = tiny.dims()
    L, D = dims.layers, dims.site_dim(noisy.sites(dims)[0])
    layers = jax.random.key_data(jax.random.split(jax.random.key(3), L))

    def rows(scale, root):
        noise = {"key": layers, "scale": jnp.full(L, scale), "mean": jnp.zeros((L, D)), "root": jnp.full((L, D), root)}
        return forward(model, noisy, layout, {**codecs, NOISE: noise}, inputs)(model.params)[0]

    still = rows(0.0, 1.0)
    np.testing.assert_allclose(still, forward(model, strategy, layout, codecs, inputs)(model.params)[0], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(rows(1.0, 0.0)), np.asarray(still))
    moved = np.abs(np.asarray(rows(1.0, 1.0) - still)).max(axis=(1, 2))
    assert moved[0] == 0  # device 0 is causally before all others
    assert moved[1] > 1e-3
