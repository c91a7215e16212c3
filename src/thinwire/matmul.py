"""Products of matrices in the type of their operands, summed in float32."""

import functools
import re
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Array, Float

# As Linux calls them in /proc/cpuinfo: of x86, of x86 with tiles, of Arm.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_CPUINFO = Path("/proc/cpuinfo")


def matmul(x_TD: Float[Array, "T D"], w_DE: Float[Array, "D E"]) -> Float[Array, "T E"]:
    """The product, float32 whatever the operands are.

    XLA's CPU backend of jax 0.10 multiplies bfloat16 by kernels of that type only where float32 comes out; where
    bfloat16 shall, it first converts both operands to float32, which takes twice as long on a CPU with bfloat16
    instructions. That of jax 0.12 does not, but sums that stay in float32 until they are used are better, too.
    """
    return jnp.matmul(x_TD, w_DE, preferred_element_type=jnp.float32)


@functools.cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this machine's CPU has instructions for it; False where Linux does not tell."""
    try:
        words = re.findall(r"\w+", _CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return False
    return not _BFLOAT16.isdisjoint(words)
