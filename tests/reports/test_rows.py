import numpy as np
import pytest

from thinwire.reports import rows as r


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "7", True])
def test_number_is_none_where_it_is_no_number(value):
    assert r.number({"x": value}, "x") is None
    assert r.number({}, "x") is None


def test_number_takes_numpy():
    assert r.number({"x": np.float32(0.5)}, "x") == 0.5


def test_single_first_then_families_as_asked_by_falling_bits(rows):
    assert [row["strategy"] for row in r.in_order(rows)] == [
        "single",
        "sequence:float32",
        "sequence:vq:groups=16",
        "tensor:int8",
        "ring:vq:groups=16",
    ]


def test_predictions_are_sorted_by_bandwidth_and_finite():
    row = {"predicted_latency_s": {"1000": 0.2, "10": 2.0, "100": float("nan")}}
    assert list(r.predictions(row).items()) == [(10.0, 2.0), (1000.0, 0.2)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (786_432, "786 kB"), (999_600, "1.00 MB"), (2.5e13, "25.0 TB")],
)
def test_bytes_in_words(value, text):
    assert r.as_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (12345.6, "12,346"),
        (1.2345, "1.23"),
        (0.00123, "0.00123"),
        (1e-9, "1.00e-9"),
        (-2, "-2.00"),
    ],
)
def test_three_significant_digits(value, text):
    assert r.significant(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "±0 %"),
        (1.003, "+0.30 %"),
        (1.07, "+7.0 %"),
        (2.5, "+150 %"),
        (100.0, "×100"),
        (0.99, "-1.0 %"),
        (None, "–"),
    ],
)
def test_ratio_as_change(ratio, text):
    assert r.as_change(ratio) == text


def test_seconds_times_and_links():
    assert r.as_seconds(0.0421) == "42.1 ms"
    assert r.as_seconds(1.234) == "1.23 s"
    assert r.as_times(2.031) == "2.0×"
    assert (r.as_mbps(10), r.as_mbps(1000), r.as_mbps(2500)) == ("10 Mbps", "1 Gbps", "2.5 Gbps")
