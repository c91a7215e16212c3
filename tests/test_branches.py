"""Work on the first rows only, where a program is of one device."""

import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.branches import FirstRows
from thinwire.layout import PAD, contiguous
from thinwire.strategies import Setting, parse_strategy
from thinwire.wire.silence import silence


def test_a_device_works_on_its_rows_and_may_have_left_the_others_out():
    rows = FirstRows(np.array([5, 40, 60]), 60)
    seen = []

    def plus_one(x_R):
        seen.append(len(x_R))
        return x_R + 1

    x_R = jnp.arange(60.0)
    with silence((1, 3)):
        padded, few = rows.each(plus_one, x_R), rows.each(plus_one, x_R[:40])
    np.testing.assert_array_equal(padded, np.concatenate([np.arange(40) + 1, np.zeros(20)]))
    np.testing.assert_array_equal(few, np.arange(40) + 1)
    assert seen == [40, 40]


@pytest.mark.parametrize(
    ("spec", "keep", "unpadded"),
    [
        ("sequence:vq:groups=6:size=16:site=kv:halo=8", "", True),
        ("sequence:vq:groups=6:size=16:site=kv:halo=0", "", True),
        ("sequence:vq:groups=6:size=16:site=kv:halo=8", "own", False),  # what is kept has the same shape everywhere
        ("ring:vq:groups=6:size=16:site=kv:halo=8", "", False),
        ("sequence:drop", "", False),
    ],
)
def test_positions_of_a_device_alone_end_with_its_last_token(spec, keep, unpadded):
    strategy = parse_strategy(spec)
    setting = Setting(tiny.dims(), contiguous(200, 3, (3.0, 1.0, 2.0), 1), keep)
    longest = 1 + strategy.work(setting).positions_NW.shape[1]
    for device in range(3):
        with silence((device, 3)):
            position_T = np.asarray(strategy.positions(setting))
        assert len(position_T) == (strategy.work(setting).worked_rows(device) if unpadded else longest)
        stretch, halo = setting.layout.segments[device], strategy.work(setting).halos[device]
        real = [0, *range(halo[0][0], stretch[0][1])]
        assert position_T[position_T < PAD].tolist() == real
