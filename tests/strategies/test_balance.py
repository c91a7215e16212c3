"""Uneven splits: rows that hold no token are left out, and shares are found by which all devices are done together."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.attention import context
from thinwire.errors import ThinwireError
from thinwire.layout import contiguous
from thinwire.strategies import parse_strategy, work_rows
from thinwire.strategies.balance import Balanced, shares_of
from thinwire.strategies.base import Setting
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire.collectives import device_index
from thinwire.wire.spmd import make_mesh, spmd

DIMS = tiny.dims()


@pytest.fixture
def fine_branches(monkeypatch):
    """Every row that only some devices fill sits behind a branch, and so does every tile of four."""
    monkeypatch.setattr(work_rows, "BRANCH_ROWS", 1)
    monkeypatch.setattr(context, "CAUSAL_TILE", 4)


@pytest.mark.parametrize("spec", ["sequence:float32:site=kv", "ring:float32:layout=zigzag", "sequence:float32:sink=1"])
@pytest.mark.parametrize("on_mesh", [False, True])
def test_rows_left_out_change_nothing(fine_branches, spec, on_mesh):
    where = make_mesh(3) if on_mesh else 3
    found = tiny.engine(spec, where, (1.0, 4.0, 2.0)).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=1e-5)


@pytest.mark.parametrize("on_mesh", [False, True])
def test_rows_left_out_change_nothing_in_a_vision_transformer(fine_branches, on_mesh):
    where = make_mesh(3) if on_mesh else 3
    found = tiny_vit.engine("sequence:float32", where, (1.0, 4.0, 2.0)).logits(tiny_vit.image())
    np.testing.assert_allclose(found, tiny_vit.single_features(), atol=1e-4)


def test_codes_with_rows_left_out_are_the_same(fine_branches, monkeypatch):
    spec = "sequence:pvq:groups=6:size=16:rank=8:halo=2"
    fine = tiny.engine(spec, make_mesh(3), (1.0, 4.0, 2.0)).logits(tiny.ids())
    monkeypatch.setattr(work_rows, "BRANCH_ROWS", 1000)
    monkeypatch.setattr(context, "CAUSAL_TILE", 128)
    whole = tiny.engine(spec, make_mesh(3), (1.0, 4.0, 2.0)).logits(tiny.ids())
    np.testing.assert_allclose(fine, whole, atol=1e-5)


def test_a_device_works_on_no_rows_behind_its_last_token(fine_branches):
    layout = contiguous(20, 3, (2.0, 12.0, 6.0))
    worked = collections.Counter()

    def function(x_TD):
        jax.debug.callback(lambda device: worked.update({int(device): x_TD.shape[0]}), device_index())
        return 2 * x_TD

    x_TD = jnp.ones((layout.rows, 2))
    run = jax.jit(spmd(lambda x_TD: WorkRows(layout).each_row(function, x_TD), make_mesh(3), (False,)))
    out_NTD = np.asarray(run(x_TD))
    jax.effects_barrier()
    assert worked == {0: 2, 1: 12, 2: 6}
    for device, length in enumerate(layout.lengths):
        np.testing.assert_array_equal(out_NTD[device, :length], 2)
        np.testing.assert_array_equal(out_NTD[device, length:], 0)


def test_rows_that_differ_little_are_worked_on_by_all():
    layout = contiguous(1023, 4, None)
    calls = []
    WorkRows(layout).each_row(lambda x: calls.append(len(x)) or x, jnp.ones((layout.rows, 1)))
    assert calls == [256]


def times(spec, shares, tokens, speeds):
    strategy = parse_strategy(spec)
    layout = strategy.layout(DIMS, tokens, len(speeds), shares)
    return np.asarray(strategy.flops(Setting(DIMS, layout))) / np.asarray(speeds)


@pytest.mark.parametrize("speeds", [(1.0, 1.0), (1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 1.0, 0.5)])
@pytest.mark.parametrize("spec", ["sequence:float32", "sequence:pvq:groups=6:size=16", "ring:int4"])
def test_balanced_devices_are_done_together(spec, speeds):
    strategy = parse_strategy(spec)
    found = Balanced(speeds).shares(strategy, DIMS, 2000, len(speeds))
    assert sum(found) + strategy.layout(DIMS, 2000, len(speeds), found).shared == 2000
    balanced, even = times(spec, found, 2000, speeds), times(spec, None, 2000, speeds)
    assert balanced.max() / balanced.min() < 1.02
    assert balanced.max() < 0.95 * even.max()


def test_what_splits_no_tokens_is_not_balanced():
    assert Balanced().shares(parse_strategy("tensor:int8"), DIMS, 64, 3) is None
    assert shares_of((1.0, 2.0), parse_strategy("sequence:int8"), DIMS, 64, 2) == (1.0, 2.0)


def test_speeds_are_one_a_device():
    with pytest.raises(ThinwireError, match="2 speeds were given for 3 devices"):
        Balanced((1.0, 2.0)).shares(parse_strategy("sequence:int8"), DIMS, 64, 3)


def test_an_engine_finds_its_shares():
    engine = tiny.engine("sequence:float32", 3, Balanced((1.0, 1.0, 4.0)))
    assert np.argmax(engine.layout(tiny.TOKENS).lengths) == 2
    np.testing.assert_allclose(engine.logits(tiny.ids()), tiny.single_logits(), atol=1e-5)
