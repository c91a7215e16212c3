"""On a mesh, devices with consecutive stretches attend to all that they see at once: what virtual devices compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.attention.context import CAUSAL_TILE
from thinwire.layout import contiguous, zigzag
from thinwire.strategies import Setting, consecutive, parse_strategy
from thinwire.strategies.consecutive import MOST_DEVICES, keys_before
from thinwire.strategies.work import work_of
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire.spmd import make_mesh, spmd

PVQ = "pvq:groups=6:size=8:rank=7"


@pytest.mark.parametrize(
    ("spec", "devices", "split"),
    [
        ("sequence:float32:site=kv", 2, (5.0, 1.0)),
        ("sequence:float32:site=x:sink=1", 3, (1.0, 4.0, 2.0)),
        ("sequence:float32:site=norm:halo=4", 4, (3.0, 1.0, 1.0, 2.0)),
        ("sequence:float32:site=kv:sink=1:halo=30", 7, None),  # halos over several devices
    ],
)
def test_exact_codecs_give_the_single_device(spec, devices, split):
    found = tiny.engine(spec, make_mesh(devices), split).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "devices", "split"),
    [
        ("sequence:vq:groups=6:size=16:site=kv:halo=20", 4, (1.0, 1.0, 3.0, 2.0)),
        ("sequence:vq:groups=6:size=16:site=x:sink=0", 3, (2.0, 1.0, 1.0)),
        ("sequence:vq:groups=4:size=8:site=norm:sink=1", 3, (1.0, 2.0, 1.0)),
        (f"sequence:{PVQ}:halo=3", 4, (1.0, 3.0, 2.0, 2.0)),
        (f"sequence:{PVQ}:layer0=coded:halo=0", 3, (1.0, 1.0, 4.0)),
        ("sequence:predict+int8:rank=7", 3, (4.0, 1.0, 1.0)),
    ],
)
def test_codes_give_what_virtual_devices_do(spec, devices, split):
    virtual = tiny.engine(spec, devices, split).logits(tiny.ids())
    real = tiny.engine(spec, make_mesh(devices), split).logits(tiny.ids())
    np.testing.assert_allclose(real, virtual, atol=1e-5)
    assert np.abs(real - tiny.single_logits()).max() > 1e-3  # codes were seen


@pytest.mark.parametrize("decode", ["one", "one:coded", "all"])
def test_generation_goes_on_as_on_virtual_devices(decode):
    spec, split = f"sequence:{PVQ}", (3.0, 1.0, 2.0)
    tokens = lambda where: list(tiny.engine(spec, where, split).generate(tiny.ids(), 4, decode=decode))
    assert tokens(make_mesh(3)) == tokens(3)


@pytest.mark.parametrize("spec", [f"sequence:{PVQ}", "sequence:int8"])
def test_which_programs_have_one_attention(spec):
    """Scores of a tile of queries are with all keys at once: here 37 of them, where parts have at most 13."""
    keys = lambda where, spec: f"x{tiny.TOKENS}xf32>" in tiny.engine(spec, where).lower(tiny.TOKENS)[0].as_text()
    assert keys(make_mesh(3), spec)
    assert not keys(3, spec)
    assert not keys(make_mesh(3), spec.replace("sequence", "ring"))
    assert not keys(make_mesh(3), f"{spec}:layout=zigzag")


def test_stretches_that_follow_each_other():
    assert consecutive.consecutive(contiguous(23, 4, (1.0, 5.0, 1.0, 1.0), 1))
    assert not consecutive.consecutive(zigzag(23, 2))
    many = contiguous(64, MOST_DEVICES + 1)
    setting = lambda layout: Setting(tiny.dims(), layout)
    assert not parse_strategy("sequence:int8").attends_at_once(setting(many))
    assert parse_strategy("sequence:int8").attends_at_once(setting(contiguous(64, MOST_DEVICES)))


def test_keys_before_a_halo():
    work = WorkRows(contiguous(23, 4, (4.0, 2.0, 8.0, 8.0), 1), halo=3)  # stretches begin at 1, 5, 7 and 15
    assert [keys_before(work, n) for n in range(4)] == [[], [1], [3, 0], [4, 2, 5]]


def test_its_work_is_counted_by_tiles_of_all_keys():
    spec, dims, tokens = "sequence:vq:groups=6:size=16:site=kv:sink=1:halo=8", tiny.dims(), 4 * CAUSAL_TILE + 1
    first, last = work_of(parse_strategy(spec), dims, tokens, 2)
    tile = CAUSAL_TILE
    assert first.pairs == tile * (1 + tile) + tile * (1 + 2 * tile)
    before = 1 + 2 * tile - 8  # the shared token, and the first device's but for the halo
    assert last.pairs == tile * (before + tile) + tile * (before + 2 * tile) + 8 * (before + 2 * tile + 8)


def test_gradients_are_those_of_virtual_devices():
    def gradients(where):
        engine = tiny.engine("sequence:float32:site=kv", where, (1.0, 3.0, 2.0))
        program = spmd(engine._local(tiny.TOKENS, "all"), engine.where, (engine._sharded, False, False))
        real_NR1 = jnp.asarray(engine.layout(tiny.TOKENS).valid_NR)[
            ..., None
        ]  # what padding gives is nobody's business
        loss = lambda params: jnp.sum(
            jnp.where(real_NR1, program(params, engine.codecs, jnp.asarray(tiny.ids()))["logits"], 0.0) ** 2
        )
        return jax.grad(loss)(engine.params)

    real, virtual = gradients(make_mesh(3)), gradients(3)
    for found, expected in zip(jax.tree.leaves(real), jax.tree.leaves(virtual), strict=True):
        size = np.abs(expected).max()
        assert size > 0
        np.testing.assert_allclose(found / size, expected / size, atol=1e-5)


def test_later_tokens_do_not_matter():
    engine = tiny.engine(f"sequence:{PVQ}", make_mesh(3), (2.0, 1.0, 1.0))
    changed = tiny.ids().copy()
    changed[30] = (changed[30] + 1) % 64
    before, after = engine.logits(tiny.ids()), engine.logits(changed)
    np.testing.assert_allclose(after[:30], before[:30], atol=1e-5)
    assert np.abs(after[30:] - before[30:]).max() > 1e-3
