"""Typed look-ups in the settings that come with a model's weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinwire.errors import ThinwireError


class Settings:
    """Typed look-ups in one JSON object; null counts as absent."""

    def __init__(self, raw: dict[str, Any], where: Path):
        self._raw, self._where = raw, where

    def number(self, key: str, default: float | int | None = None) -> float:
        """A number, or ThinwireError."""
        value = self._raw.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ThinwireError(f"{self._where} needs a number for {key}, and has {value!r}")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, or ThinwireError."""
        value = self.number(key, default)
        if value % 1:
            raise ThinwireError(f"{self._where} needs a whole number for {key}, and has {value!r}")
        return int(value)

    def only(self, key: str, *supported: Any) -> None:
        """Raises ThinwireError where a setting is none of these; the first is what an absent one means."""
        value = self._raw.get(key)
        if value is not None and value not in supported:
            raise ThinwireError(
                f"{self._where} sets {key} to {value!r}, and only {' or '.join(map(repr, supported))} is supported"
            )


def check_positive(where: Path, sizes: Mapping[str, float | int]) -> None:
    """Raises ThinwireError where a size, given by what it is the size of, is not positive and finite."""
    for name, value in sizes.items():
        if not (value > 0 and math.isfinite(value)):
            raise ThinwireError(f"{where} gives a {name} of {value}: the file is damaged")
