"""Laws of growth fitted to measured costs: powers, and sums of powers whose exponents are known."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from thinwire.errors import ThinwireError


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """``y = factor * x ** exponent``."""

    exponent: float
    exponent_error: float | None  # standard error; None where two points leave none
    factor: float

    def at(self, x: float | int) -> float:
        """The cost at ``x``."""
        return self.factor * x**self.exponent


@dataclasses.dataclass(frozen=True)
class Sum:
    """``y = sum of coefficient * x ** power``."""

    powers: tuple[float | int, ...]
    coefficients: tuple[float, ...]
    errors: tuple[float | None, ...]  # standard errors; None where there are as many terms as points

    def at(self, x: float | int) -> float:
        """The cost at ``x``."""
        return sum(c * x**p for c, p in zip(self.coefficients, self.powers, strict=True))

    def coefficient(self, power: float | int) -> float:
        """Of the term of a power."""
        return self.coefficients[self.powers.index(power)]

    def meeting(self, one: float | int, other: float | int) -> float | None:
        """The ``x`` at which two terms cost the same; None if one of them was found to cost nothing."""
        a, b = self.coefficient(one), self.coefficient(other)
        return (a / b) ** (1 / (other - one)) if a > 0 and b > 0 else None


def power_law(x: Sequence[float | int], y: Sequence[float | int]) -> PowerLaw:
    """The straight line through the logarithms by least squares.

    Raises:
        ThinwireError: there are fewer than two different ``x``, or a number is not positive.
    """
    log_x, log_y = np.log(_positive(x, y, 2)), np.log(np.asarray(y, float))
    centred = log_x - log_x.mean()
    spread = float(centred @ centred)
    exponent = float(centred @ log_y) / spread
    left = log_y - log_y.mean() - exponent * centred
    error = float(np.sqrt(left @ left / (len(log_x) - 2) / spread)) if len(log_x) > 2 else None
    return PowerLaw(exponent, error, float(np.exp(log_y.mean() - exponent * log_x.mean())))


def sum_of_powers(x: Sequence[float | int], y: Sequence[float | int], powers: Sequence[float | int]) -> Sum:
    """Terms of known powers by least squares of the relative errors, so that small costs count like large ones.

    No term costs less than nothing: one whose best coefficient is negative is left out, the most negative first.

    Raises:
        ThinwireError: there are fewer different ``x`` than terms, or a number is not positive.
    """
    at, cost = _positive(x, y, len(powers)), np.asarray(y, float)
    matrix = np.stack([at**power for power in powers], axis=1) / cost[:, None]
    scale = np.linalg.norm(matrix, axis=0)
    kept = list(range(len(powers)))
    while True:
        part = matrix[:, kept] / scale[kept]
        found = np.linalg.lstsq(part, np.ones(len(at)), rcond=None)[0]
        if found.min() >= 0:
            break
        kept.pop(int(found.argmin()))
    free = len(at) - len(kept)
    errors: list[float | None] = [0.0 if free else None] * len(powers)
    coefficients = [0.0] * len(powers)
    left = part @ found - 1
    inverse = np.linalg.inv(part.T @ part)
    for n, index in enumerate(kept):
        coefficients[index] = float(found[n] / scale[index])
        if free:
            errors[index] = float(np.sqrt(left @ left / free * inverse[n, n]) / scale[index])
    return Sum(tuple(powers), tuple(coefficients), tuple(errors))


def _positive(x: Sequence[float | int], y: Sequence[float | int], least: int) -> np.ndarray:
    """``x`` as an array, if a law of so many unknowns can be fitted to it."""
    at = np.asarray(x, float)
    if len(x) != len(y) or len(set(x)) < least:
        raise ThinwireError(f"{len(set(x))} sizes are too few to fit a law of {least} unknowns; measure more of them.")
    if not (np.all(at > 0) and np.all(np.asarray(y, float) > 0) and np.all(np.isfinite(y))):
        raise ThinwireError("a law of growth is fitted to positive numbers only; measure again.")
    return at
