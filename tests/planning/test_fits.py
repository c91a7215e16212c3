"""Fits find the laws that data were made by, and say how sure they are."""

import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.planning.fits import power_law, sum_of_powers

TOKENS = [256, 512, 1024, 2048, 4096, 8192, 16384]


def test_a_power_law_is_found_exactly():
    law = power_law(TOKENS, [3e-6 * t**1.7 for t in TOKENS])
    assert law.exponent == pytest.approx(1.7)
    assert law.factor == pytest.approx(3e-6)
    assert law.exponent_error == pytest.approx(0, abs=1e-9)
    assert law.at(1000) == pytest.approx(3e-6 * 1000**1.7)


def test_the_standard_error_of_an_exponent_is_that_of_noise():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        found.append(power_law(TOKENS, [t**0.5 * np.exp(0.1 * rng.standard_normal()) for t in TOKENS]))
    spread = np.std([law.exponent for law in found])
    assert np.sqrt(np.mean([law.exponent_error**2 for law in found])) == pytest.approx(spread, rel=0.1)
    assert np.mean([law.exponent for law in found]) == pytest.approx(0.5, abs=0.01)


def test_a_sum_of_powers_is_found_and_its_terms_meet():
    law = sum_of_powers(TOKENS, [2e-3 + 5e-6 * t + 1e-9 * t**2 for t in TOKENS], (0, 1, 2))
    assert law.coefficients == pytest.approx((2e-3, 5e-6, 1e-9))
    assert law.meeting(1, 2) == pytest.approx(5000)
    assert law.meeting(0, 1) == pytest.approx(400)
    assert law.at(0) == pytest.approx(2e-3)


def test_what_shrinks_with_devices_meets_what_does_not():
    devices = [1, 2, 4, 8, 16]
    law = sum_of_powers(devices, [0.1 + 3 / n for n in devices], (0, -1))
    assert law.meeting(0, -1) == pytest.approx(30)


def test_no_term_is_negative():
    law = sum_of_powers(TOKENS, [1e-6 * t * (1 - 1e-5 * t) for t in TOKENS], (0, 1, 2))
    assert min(law.coefficients) >= 0
    assert law.coefficient(2) == 0
    assert law.meeting(1, 2) is None


def test_small_costs_count_like_large_ones():
    noisy = [1e-3 + 1e-6 * t for t in TOKENS[:-1]] + [1.3 * (1e-3 + 1e-6 * TOKENS[-1])]
    assert sum_of_powers(TOKENS, noisy, (0, 1)).at(256) == pytest.approx(1e-3 + 256e-6, rel=0.1)


def test_two_points_leave_no_error():
    assert power_law([1, 2], [1.0, 4.0]).exponent_error is None
    assert sum_of_powers([1, 2], [3.0, 5.0], (0, 1)).errors == (None, None)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1], [1.0], "too few"),
        ([2, 2], [1.0, 2.0], "too few"),
        ([1, 2], [0.0, 1.0], "positive"),
        ([1, -2], [1.0, 1.0], "positive"),
        ([1, 2], [float("nan"), 1.0], "positive"),
    ],
)
def test_what_has_no_law_is_refused(x, y, said):
    with pytest.raises(ThinwireError, match=said):
        power_law(x, y)


def test_more_terms_than_sizes_are_refused():
    with pytest.raises(ThinwireError, match="2 sizes are too few"):
        sum_of_powers([1, 2], [1.0, 2.0], (0, 1, 2))
