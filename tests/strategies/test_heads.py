import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thinwire.strategies.heads import HeadPlan, deal


@given(st.integers(0, 60), st.integers(1, 12))
def test_deal_gives_each_item_to_one_device_in_order(items, devices):
    dealt = deal(items, devices)
    assert dealt.shape[0] == devices
    real = dealt[dealt >= 0]
    assert real.tolist() == list(range(items))  # each once, in order over devices
    counts = (dealt >= 0).sum(axis=1)
    assert np.ptp(counts) <= 1  # as evenly as it goes
    assert dealt.shape[1] == max(1, -(-items // devices))  # no wider than needed
    for row, count in zip(dealt, counts, strict=True):
        assert (row[count:] == -1).all()  # empty slots come last


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
def test_every_query_head_finds_its_key_head(kv_heads, group, devices):
    plan = HeadPlan(kv_heads * group, kv_heads, devices)
    assert sorted(plan.query_NH[plan.query_NH >= 0].tolist()) == list(range(kv_heads * group))
    for queries, keys, slots in zip(plan.query_NH, plan.key_NK, plan.key_slot_NH, strict=True):
        for query, slot in zip(queries, slots, strict=True):
            assert 0 <= slot < len(keys)
            if query >= 0:
                assert keys[slot] == query // group
        wanted = {q // group for q in queries.tolist() if q >= 0}
        held = [k for k in keys.tolist() if k >= 0]
        assert sorted(held) == sorted(wanted)  # those, each once, and no other
    assert set(plan.key_NK[plan.key_NK >= 0].tolist()) == set(range(kv_heads))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
def test_regular_plans_need_no_gather(kv_heads, group, devices):
    """``regular`` promises that equal groups of slots, in order, share the device's key heads."""
    plan = HeadPlan(kv_heads * group, kv_heads, devices)
    if plan.regular:
        per_key = plan.query_NH.shape[1] // plan.key_NK.shape[1]
        for queries, keys in zip(plan.query_NH, plan.key_NK, strict=True):
            for slot, query in enumerate(queries.tolist()):
                assert query < 0 or keys[slot // per_key] == query // group
    if kv_heads % devices == 0:
        assert plan.regular  # nothing is padded or shared


def test_nine_and_three_heads():
    plan = HeadPlan(9, 3, 2)
    assert plan.query_NH.tolist() == [[0, 1, 2, 3, -1], [4, 5, 6, 7, 8]]
    assert plan.key_NK.tolist() == [[0, 1], [1, 2]]
    assert plan.key_slot_NH.tolist() == [[0, 0, 0, 1, 0], [0, 0, 1, 1, 1]]
    assert not plan.regular
    assert HeadPlan(9, 3, 3).regular
    assert HeadPlan(9, 3, 1).regular
