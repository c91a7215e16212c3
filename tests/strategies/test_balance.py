"""Uneven splits: rows that hold no token are left out, and shares are found by which all devices are done together."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire import branches
from thinwire.attention import context
from thinwire.errors import ThinwireError
from thinwire.layout import contiguous
from thinwire.strategies import parse_strategy
from thinwire.strategies.balance import Balanced, costs, shares_of
from thinwire.strategies.work import work_of
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire.collectives import device_index
from thinwire.wire.spmd import make_mesh, spmd

DIMS = tiny.dims()


@pytest.fixture
def fine_branches(monkeypatch):
    """Every number of rows is a program of its own, and every tile of four sits behind a branch."""
    monkeypatch.setattr(branches, "BRANCH_ROWS", 1)
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
    monkeypatch.setattr(branches, "BRANCH_ROWS", 1000)
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
    work = WorkRows(contiguous(1023, 4, None))
    assert work.counts_N.tolist() == [256, 256, 256, 255]
    assert [work.worked_rows(n) for n in range(4)] == [256] * 4


def test_virtual_devices_work_on_all_rows_once(fine_branches):
    calls = []
    run = spmd(
        lambda x: WorkRows(contiguous(8, 2, (6.0, 2.0))).each_row(lambda x: calls.append(len(x)) or x, x), 2, (0,)
    )
    run(jnp.ones((6, 1)))
    assert calls == [6]


@pytest.mark.parametrize("speeds", [(1.0, 1.0), (1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 1.0, 0.5)])
@pytest.mark.parametrize("spec", ["sequence:float32", "sequence:pvq:groups=6:size=16", "ring:int4"])
def test_the_slowest_device_of_a_balanced_split_gains_by_giving_no_tokens_away(spec, speeds):
    strategy, devices = parse_strategy(spec), len(speeds)
    seconds = lambda lengths: costs(strategy, DIMS, 2000, lengths) / np.asarray(speeds)
    found = tuple(int(share) for share in Balanced(speeds).shares(strategy, DIMS, 2000, devices))
    layout = strategy.layout(DIMS, 2000, devices, tuple(map(float, found)))
    assert layout.lengths == found
    assert sum(found) + layout.shared == 2000
    slowest = int(np.argmax(seconds(found)))
    for other in set(range(devices)) - {slowest}:
        for tokens in (4, 16, 64):
            moved = np.array(found)
            moved[[slowest, other]] += [-tokens, tokens]
            assert moved.min() < 1 or seconds(tuple(moved.tolist())).max() >= seconds(found).max()
    even = strategy.layout(DIMS, 2000, devices, None).lengths
    assert seconds(found).max() < 0.9 * seconds(even).max()


@pytest.mark.parametrize(("spec", "rows"), [("pvq:groups=6:size=16", 1400 + 200 + 200), ("vq:groups=6:size=16", 4200)])
def test_padding_is_counted_as_work_where_it_is_work(spec, rows):
    """What decodes without a prediction decodes as many rows of every device as the largest share has."""
    *_, last = work_of(parse_strategy(f"sequence:{spec}:sink=0"), DIMS, 2000, 4, (1400.0, 200.0, 200.0, 200.0))
    assert [(coding.kind, count) for coding, count in last.coding if coding.kind == "decode"] == [("decode", rows)]


@pytest.fixture
def seen(monkeypatch):
    """How often each device has attended by so many queries to so many keys."""
    counted = collections.Counter()
    attend = context.partial_attention

    def counting(q_THd, k_SKd, *rest):
        jax.debug.callback(lambda device: counted.update([(int(device), len(q_THd), len(k_SKd))]), device_index())
        return attend(q_THd, k_SKd, *rest)

    monkeypatch.setattr(context, "partial_attention", counting)
    return counted


@pytest.mark.parametrize("name", ["ring", "sequence"])
def test_no_device_looks_at_rows_behind_another_ones_last_token(fine_branches, seen, name):
    engine = tiny.engine(f"{name}:float32:site=kv", make_mesh(3), (1.0, 4.0, 2.0))
    engine.logits(tiny.ids())
    jax.effects_barrier()
    few, most, some = engine.layout(tiny.TOKENS).lengths
    assert len({few, most, some}) == 3
    layers = tiny.dims().layers
    if name == "sequence":  # to all keys at once, tile by tile of queries
        of = lambda device: [(queries * count, keys) for (n, queries, keys), count in seen.items() if n == device]
        assert [sum(queries for queries, _ in of(n)) for n in range(3)] == [layers * n for n in (few, most, some)]
        assert [max(keys for _, keys in of(n)) for n in range(3)] == [few, few + most, tiny.TOKENS]
        return
    assert (seen[1, most, few], seen[2, some, few], seen[2, some, most]) == (layers, layers, layers)
    assert not any(queries == some and keys > most for device, queries, keys in seen if device == 2)


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


def test_many_devices_that_differ_share_programs():
    layout = contiguous(4096, 8, tuple(float(n + 4) for n in range(8)))
    queries = WorkRows(layout).queries(True)
    (mine, theirs), meet_NN = context.pairs_of(layout, queries, queries.tiles[0], context.tiles(layout)[0], True)
    counts = lambda theirs: {(mine.worked(n), theirs.worked(m)) for n, m in np.argwhere(meet_NN).tolist()}
    assert len(counts(theirs)) > branches.MOST_PAIRS
    assert len(counts(branches.meeting(mine, theirs, meet_NN))) <= 8  # one for each device's own rows
