"""The pace of a machine at this moment: what its matrix products do a second, looked at again and again.

Machines that are shared change it by half within seconds. So it is measured around each timed pass, and a pass is put
beside a floor of its own time.
"""

import time

import jax
import jax.numpy as jnp

from thinwire.matmul import matmul

_SLICES, _SLICE_S = 3, 0.05


class Pace:
    """One matrix product, compiled.

    Args:
        rows, width, hidden: of (rows, width) by (width, hidden).
        dtype: of both.
    """

    def __init__(self, rows: int, width: int, hidden: int, dtype: str):
        self._flops = 2.0 * rows * width * hidden
        self._operands = jnp.ones((rows, width), dtype), jnp.ones((width, hidden), dtype)
        self._multiply = jax.jit(matmul)
        self._multiply(*self._operands).block_until_ready()

    def rate(self) -> float:
        """FLOP/s, alone: the best of a few slices, as what a slice lost to a scheduler is not the pace."""
        return max(self._slice() for _ in range(_SLICES))

    def _slice(self) -> float:
        times, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < _SLICE_S:
            self._multiply(*self._operands).block_until_ready()
            times += 1
        return times * self._flops / taken
