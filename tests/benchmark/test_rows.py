"""Rows of a benchmark, by hand: a machine that changes its pace does not change what is said of a strategy."""

from types import SimpleNamespace

import pytest

from thinwire.benchmark import pace as pace_module
from thinwire.benchmark.pace import Pace
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.rows import TimedPass, row, with_speedups

PLAN = Plan("shape:llama-tiny", (), (1.0, 1.0), (8.0,), (64,))


def rows_of(single, split):
    facts = {"codec": "", "bits_per_token_per_layer": 0.0}
    alone = {"strategy": "single", "hosts": 1, "model_flops": [4e9], "bytes_by_device": [0], "messages_by_device": [0]}
    both = {"strategy": "s", "hosts": 2, "model_flops": [2e9] * 2, "bytes_by_device": [500_000] * 2}
    made = [
        row(PLAN, {**facts, **alone, "rounds": 0, "exchange": "xla"}, 64, 8.0, single, 1.0, 0.0),
        row(
            PLAN,
            {**facts, **both, "messages_by_device": [1, 1], "rounds": 1, "exchange": "xla"},
            64,
            8.0,
            split,
            1.0,
            0.0,
        ),
    ]
    return with_speedups(made)


def test_each_pass_is_beside_the_floor_of_its_own_time():
    single = [TimedPass(4.4, (1e9,)), TimedPass(2.2, (2e9,)), TimedPass(8.8, (0.5e9,))]
    # Two hosts, the slower of which counts, and half a second of sending: floors of 2.5, 1.5 and 4.5 s.
    split = [TimedPass(3.0, (1e9, 2e9)), TimedPass(1.8, (3e9, 2e9)), TimedPass(5.4, (0.5e9, 0.5e9))]
    alone, both = rows_of(single, split)
    assert alone["ratio_to_floor"] == pytest.approx(1.1)
    assert both["ratio_to_floor"] == pytest.approx(1.2)
    assert (both["total_s"], both["floor_s"], both["flops_per_second"]) == (3.0, 2.5, 1e9)


def test_speedup_at_equal_pace_goes_turn_by_turn():
    single = [TimedPass(4.0, (1e9,)), TimedPass(4.0, (1e9,)), TimedPass(2.0, (2e9,))]
    # The machine was half as fast for the strategy's first pass and twice as fast for its second: always 1.6 times.
    split = [TimedPass(5.0, (0.5e9, 1e9)), TimedPass(1.25, (2e9, 1e9)), TimedPass(1.25, (2e9, 1e9))]
    alone, both = rows_of(single, split)
    assert alone["speedup_at_equal_pace"] == pytest.approx(1)
    assert both["speedup_at_equal_pace"] == pytest.approx(1.6)
    assert both["speedup_vs_single"] == pytest.approx(4 / 1.25)


def test_the_pace_is_that_of_the_best_slice(monkeypatch):
    pace, clock = Pace(8, 16, 32, "float32"), iter([0.0, 0.0, 0.1, 1.0, 1.0, 1.01, 1.02, 1.08, 2.0, 2.0, 2.2])
    # Products in three slices: one in 0.1 s, three in 0.08 s, one in 0.2 s; each is 2 · 8 · 16 · 32 operations.
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert pace.rate() == pytest.approx(3 * 8192 / 0.08)
