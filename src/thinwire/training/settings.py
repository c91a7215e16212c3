"""What the settings of trainings have in common: the types that are computed in, and numbers that cannot be."""

from typing import Any, Literal

from thinwire.errors import ThinwireError

Dtype = Literal["float32", "bfloat16", "float16"]


def check_least(settings: Any, **least: int) -> None:
    """Says which setting is below the least that it can be.

    Raises:
        ThinwireError: the first one, by its name.
    """
    for name, lowest in least.items():
        if getattr(settings, name) < lowest:
            raise ThinwireError(f"{name} is {getattr(settings, name)}; use {lowest} or more.")
