"""Codes that get lost: none, all, and some of them, in models that look back and in one that looks both ways."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.lost import LossySequence, lossy, repairs, variants
from thinwire.models import vit
from thinwire.strategies import parse_strategy
from thinwire.strategies.base import LayerScope, Setting
from thinwire.wire.spmd import make_mesh, spmd

VQ = parse_strategy("sequence:vq:groups=6:size=16")
PVQ = parse_strategy("sequence:pvq:groups=6:size=16")
NEAR = {"rtol": 1e-4, "atol": 2e-4}


def outputs(strategy, family="llama", split=None, where=3):
    if family == "vit":
        codebooks = tiny_vit.codebooks(strategy, vit.dims(tiny_vit.CONFIG))
        return Engine(tiny_vit.model(), strategy, where, codebooks, split).logits(tiny_vit.image())
    codebooks = tiny.codebooks(strategy, tiny.dims(family))
    return Engine(tiny.model(family), strategy, where, codebooks, split).logits(tiny.ids())


def drawn(strategy, devices=3):
    """(layers, receivers, senders, R): what is lost."""
    dims = tiny.dims()
    setting = Setting(dims, strategy.layout(dims, tiny.TOKENS, devices, None))

    def of_device(number):
        scope = LayerScope(setting, {}, {}, ())
        scope.number = number
        return jax.vmap(lambda other: strategy.lost(scope, other))(jnp.arange(devices))

    program = spmd(of_device, devices, (False,))
    return np.stack([np.asarray(program(jnp.int32(layer))) for layer in range(4)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "vit"])
def test_nothing_lost_is_the_strategy_itself(family):
    strategy = VQ if family != "vit" else parse_strategy("sequence:vq:groups=6:size=16:class_tokens=each")
    np.testing.assert_array_equal(outputs(lossy(strategy), family), outputs(strategy, family))


@pytest.mark.parametrize("options", repairs(PVQ)[::3])
def test_nothing_lost_of_a_prediction_is_the_strategy_itself(options):
    np.testing.assert_allclose(outputs(lossy(PVQ, rate=0.0, **options)), outputs(PVQ), **NEAR)


@pytest.mark.parametrize("family", ["llama", "bert", "vit"])
@pytest.mark.parametrize("split", [None, (3.0, 2.0, 1.0)])
def test_everything_lost_and_masked_is_to_drop_it(family, split):
    """With the same halo and the same token 0."""
    dropped = dataclasses.replace(VQ, codec=parse_strategy("sequence:drop").codec)
    found = outputs(lossy(VQ, rate=1.0), family, split=split)
    np.testing.assert_allclose(found, outputs(dropped, family, split=split), **NEAR)
    assert np.abs(found - outputs(VQ, family, split=split)).max() > 1e-2


def test_everything_lost_leaves_no_mean():
    found = outputs(lossy(VQ, rate=1.0, repair="mean"))
    np.testing.assert_allclose(found, outputs(lossy(VQ, rate=1.0)), **NEAR)


@pytest.mark.thorough
def test_everything_lost_and_predicted_is_a_prediction_alone():
    """The same prediction, rotation and codebooks, but nothing added to what is predicted."""
    codebooks = tiny.codebooks(PVQ, tiny.dims())
    silent = {**codebooks, "kv": {**codebooks["kv"], "codebook": np.zeros_like(codebooks["kv"]["codebook"])}}
    engine = lambda strategy, codecs: Engine(tiny.model(), strategy, 3, codecs).logits(tiny.ids())
    lost = engine(lossy(PVQ, rate=1.0, repair="predict"), codebooks)
    np.testing.assert_allclose(lost, engine(PVQ, silent), **NEAR)
    assert np.abs(lost - engine(PVQ, codebooks)).max() > 1e-3


@pytest.mark.thorough
def test_a_mended_loop_predicts_from_the_codes():
    """With three layers the second's losses show in the third's prediction, unless they are mended."""
    model = tiny.model(L=3)
    dims = dataclasses.replace(tiny.dims(), layers=3)
    codebooks = tiny.codebooks(PVQ, dims)
    # A prediction that weighs, so that what it is made from is felt.
    strong = {**codebooks["kv"], "predict": 10 * np.asarray(codebooks["kv"]["predict"])}
    codecs = {**codebooks, "kv": strong}
    run = lambda strategy: Engine(model, strategy, 3, codecs).logits(tiny.ids())
    broken = run(lossy(PVQ, rate=0.5, repair="mask", loop="broken"))
    mended = run(lossy(PVQ, rate=0.5, repair="mask", loop="mended"))
    assert np.abs(broken - mended).max() > 1e-2
    # In two layers nothing is predicted from what was lost: layer 0 is recomputed, and behind layer 1 comes nothing.
    both = [outputs(lossy(PVQ, rate=0.5, repair="mask", loop=loop)) for loop in ("broken", "mended")]
    np.testing.assert_allclose(*both, **NEAR)


def test_draws():
    lost = drawn(lossy(VQ, rate=0.3))
    layers, receivers, senders, rows = lost.shape
    assert (receivers, senders) == (3, 3)
    assert not lost[:, range(3), range(3)].any()  # nobody loses what it has
    others = lost[:, ~np.eye(3, dtype=bool)]
    assert 0.2 < others.mean() < 0.4
    patterns = {tuple(pattern) for pattern in others.reshape(-1, rows)}
    assert len(patterns) == layers * 6  # every pair and layer has one of its own
    np.testing.assert_array_equal(lost, drawn(lossy(VQ, rate=0.3)))
    assert not np.array_equal(lost, drawn(lossy(VQ, rate=0.3, draw=1)))


def test_a_token_loses_nothing_of_its_own_device():
    """The first device of a causal model receives nothing that it could use."""
    found, exact = outputs(lossy(VQ, rate=0.5)), outputs(VQ)
    first = Engine(tiny.model(), VQ, 3, tiny.codebooks(VQ, tiny.dims())).layout(tiny.TOKENS).lengths[0]
    np.testing.assert_allclose(found[: first + 1], exact[: first + 1], **NEAR)
    assert np.abs(found[first + 1 :] - exact[first + 1 :]).max() > 1e-3


@pytest.mark.parametrize("repair", ["mask", "mean"])
def test_more_loss_is_further_away(repair):
    exact = outputs(VQ)
    apart = [np.abs(outputs(lossy(VQ, rate=rate, repair=repair)) - exact).mean() for rate in (0.05, 0.5)]
    assert 0 < apart[0] < apart[1]


@pytest.mark.thorough
def test_a_mesh_gives_the_same():
    strategy = lossy(PVQ, rate=0.3, repair="predict")
    np.testing.assert_allclose(outputs(strategy, where=make_mesh(3)), outputs(strategy), **NEAR)


def test_variants():
    made = variants(VQ, (0.0, 0.1, 0.5), range(2))
    assert [s.spec() for s in made[:3]] == [
        "lossy:vq:groups=6:size=16",
        "lossy:vq:groups=6:size=16:rate=0.1",
        "lossy:vq:groups=6:size=16:rate=0.1:draw=1",
    ]
    assert len({s.spec() for s in made}) == len(made) == 1 + 2 * 2 * 2
    assert len(variants(PVQ, (0.1,), range(1))) == 4


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ("sequence:int8", {"rate": 1.5}, "rate=1.5 is no probability"),
        ("sequence:int8", {"repair": "guess"}, "repair=guess is unknown; use one of mask, mean, predict"),
        ("sequence:int8", {"repair": "predict"}, "int8 predicts nothing to put in place"),
        ("sequence:int8", {"loop": "mended"}, "int8 predicts nothing, so it has no loop"),
        ("sequence:pvq:groups=6", {"repair": "mean"}, "knows better than the mean"),
        ("sequence:drop", {}, "drop sends nothing, so nothing gets lost"),
        ("sequence:means:length=4", {}, "has one code for several tokens"),
        ("ring:int8", {}, "ring:int8 has no codes of single tokens to lose"),
        ("single", {}, "single has no codes of single tokens"),
    ],
)
def test_mistakes(spec, options, words):
    with pytest.raises(ThinwireError, match=words):
        lossy(parse_strategy(spec), **options).check(tiny.dims())


def test_a_strategy_keeps_its_options():
    strategy = lossy(parse_strategy("sequence:int4:site=x:halo=3"), rate=0.1)
    assert isinstance(strategy, LossySequence)
    assert (strategy.site, strategy.halo, strategy.rate) == ("x", 3, 0.1)
