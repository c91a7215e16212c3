import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.errors import ThinwireError
from thinwire.layout import LAYOUTS, PAD, contiguous, split_lengths, zigzag


@st.composite
def arguments(draw):
    make = draw(st.sampled_from(sorted(LAYOUTS)))
    devices = draw(st.integers(1, 9))
    shared = draw(st.integers(0, 2))
    least = shared + devices * (2 if make == "zigzag" else 1)
    tokens = draw(st.integers(least, least + 60))
    split = draw(st.none() | st.lists(st.floats(0.01, 100), min_size=devices, max_size=devices))
    return make, tokens, devices, split, shared


def built(arguments):
    return LAYOUTS[arguments[0]](*arguments[1:])


@given(arguments())
def test_every_token_is_held_once_and_shared_ones_by_all(arguments):
    layout = built(arguments)
    held = [t for own in layout.segments for start, stop in own for t in range(start, stop)]
    assert sorted(held) == list(range(layout.shared, layout.tokens))
    assert sum(layout.lengths) == layout.tokens - layout.shared
    assert min(layout.lengths) >= 1
    positions = layout.positions_NR
    assert positions.shape == (layout.devices, layout.rows)
    assert sorted(positions[layout.valid_NR].tolist()) == sorted(held)
    assert (positions[~layout.valid_NR] == PAD).all()
    assert layout.valid_NR.sum(axis=1).tolist() == list(layout.lengths)


@given(arguments())
def test_join_undoes_the_split(arguments):
    layout = built(arguments)
    values = np.arange(layout.tokens) * 10 + 3
    own = np.where(layout.valid_NR, values[np.minimum(layout.positions_NR, layout.tokens - 1)], -1)
    shared = np.tile(values[: layout.shared], (layout.devices, 1))
    rows = np.concatenate([shared, own], axis=1)[..., None] * np.ones((1, 1, 2), int)
    joined = layout.join(rows)
    assert joined.shape == (layout.tokens, 2)
    assert (joined == values[:, None]).all()


@given(arguments())
def test_segments_ascend_and_rows_are_not_wasted(arguments):
    layout = built(arguments)
    ends = [end for _, end in layout.segment_rows]
    assert ends == sorted(ends)
    assert layout.rows == (ends[-1] if ends else 0)
    for own, row in zip(layout.segments, layout.positions_NR, strict=True):
        flat = [edge for segment in own for edge in segment]
        assert flat == sorted(flat)
        for start, stop in layout.segment_rows:
            real = row[start:stop][row[start:stop] < PAD]
            assert (np.diff(real) == 1).all()  # no hole inside a stretch, padding at its end only
            assert (row[start : start + real.size] < PAD).all()
    assert layout.rows == sum(
        max(stop - start for start, stop in column) for column in zip(*layout.segments, strict=True)
    )


@given(arguments(), st.booleans())
def test_visible_pairs_are_counted(arguments, causal):
    layout = built(arguments)
    for own, counted in zip(layout.segments, layout.visible_pairs(causal), strict=True):
        queries = [*range(layout.shared), *(t for start, stop in own for t in range(start, stop))]
        pairs = sum(1 for q in queries for k in range(layout.tokens) if k <= q or not causal)
        assert counted == pairs


@given(st.integers(1, 200), st.integers(1, 12), st.data())
def test_shares_are_kept_to_within_rounding(tokens, parts, data):
    weights = data.draw(st.lists(st.floats(0.5, 2), min_size=parts, max_size=parts))
    tokens += 8 * parts  # so that nobody is raised to one token
    lengths = split_lengths(tokens, parts, weights)
    exact = np.array(weights) / sum(weights) * tokens
    assert sum(lengths) == tokens
    assert (np.abs(lengths - exact) < 1 + 1e-9).all()


def test_even_split_by_default():
    assert split_lengths(37, 5) == [8, 8, 7, 7, 7]
    assert contiguous(37, 5).lengths == (8, 8, 7, 7, 7)


def test_tiny_shares_still_get_a_token():
    assert split_lengths(4, 4, [1000.0, 1.0, 1.0, 1.0]) == [1, 1, 1, 1]
    lengths = split_lengths(10, 4, [1000.0, 1e-3, 1e-3, 1e-3])
    assert lengths == [7, 1, 1, 1]


def test_zigzag_pairs_the_first_with_the_last():
    layout = zigzag(16, 2)
    assert layout.segments == (((0, 4), (12, 16)), ((4, 8), (8, 12)))
    even = layout.visible_pairs(causal=True)
    assert even[0] == even[1]  # the point of it


def test_uneven_zigzag_balances_causal_work_better_than_stretches():
    spread = lambda layout: np.ptp(layout.visible_pairs(causal=True))
    assert spread(zigzag(64, 4)) < spread(contiguous(64, 4)) / 10


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: contiguous(8, 0), "0 devices"),
        (lambda: contiguous(8, -1), "-1 devices"),
        (lambda: contiguous(3, 4), "3 tokens cannot be split over 4 devices"),
        (lambda: contiguous(4, 4, shared=1), "4 devices"),
        (lambda: zigzag(7, 4), "8 tokens"),
        (lambda: zigzag(8, 0), "0 devices"),
        (lambda: contiguous(8, 2, [1.0]), "2 devices"),
        (lambda: contiguous(8, 2, [1.0, 0.0]), "positive"),
        (lambda: contiguous(8, 2, [1.0, -2.0]), "positive"),
        (lambda: contiguous(8, 2, [1.0, float("nan")]), "positive"),
        (lambda: contiguous(8, 2, [1.0, float("inf")]), "positive"),
        (lambda: contiguous(8, 2, []), "2 devices"),
        (lambda: zigzag(8, 2, [1.0, 2.0, 3.0]), r"\[1.0, 2.0, 3.0\] does not give 2 devices"),
        (lambda: zigzag(8, 2, [1.0, 0.0]), r"\[1.0, 0.0\] does not give 2 devices"),
    ],
)
def test_impossible_layouts_are_refused(make, says):
    with pytest.raises(ThinwireError, match=says):
        make()
