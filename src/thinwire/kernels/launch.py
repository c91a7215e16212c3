"""Running a kernel on whatever the program is compiled for: a TPU, a GPU (through Triton), or interpreted on a CPU."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array

Platform = Literal["cpu", "gpu", "tpu"]
SMALLEST = 16  # Triton multiplies nothing smaller, and wants powers of two


def on_platform(kernel: Callable[..., Any], *arrays: Array) -> Any:
    """``kernel(platform, *arrays)`` for the platform that the program is compiled for."""
    of = lambda platform: functools.partial(kernel, platform)
    return lax.platform_dependent(*arrays, cpu=of("cpu"), tpu=of("tpu"), default=of("gpu"))


def pallas_call(platform: Platform, body: Callable[..., None], **options: Any) -> Callable[..., Any]:
    """``pl.pallas_call`` with what the platform needs."""
    params = _triton() if platform == "gpu" else None
    return pl.pallas_call(body, interpret=platform == "cpu", compiler_params=params, **options)


def _triton() -> Any:
    """Triton's parameters: without them jax 0.10 takes Mosaic GPU, whose kernels are written for one chip."""
    try:
        from jax.experimental.pallas import triton
    except ImportError:  # its removal has been announced
        return None
    return triton.CompilerParams()


def power_of_two(size: int) -> int:
    """The least power of two that holds so many, and at least ``SMALLEST``."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def pad(x: Array, axis: int, multiple: int, value: float | int = 0) -> Array:
    """``x`` made longer along an axis, to a multiple of so many, and at least to that."""
    size = max(1, -(-x.shape[axis] // multiple)) * multiple
    widths = [(0, (size - x.shape[axis]) * (i == axis)) for i in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=value)
