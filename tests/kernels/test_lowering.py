"""The kernels become programs for TPUs and GPUs without one: what their compilers cannot express is found here."""

import jax
import jax.numpy as jnp
import pytest

from thinwire.attention.coded import coded
from thinwire.kernels.code_table import table_attention
from thinwire.kernels.mixed import mixed_attention
from thinwire.kernels.search import search

CALLS = {"tpu": "tpu_custom_call", "cuda": "__gpu$xla.gpu.triton"}
TRITON = tuple(map(int, jax.__version__.split(".")[:2])) < (0, 11)  # later ones warn of its end, and ask for a chip


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def _attention(kernel, groups, size, dtype=jnp.float32):
    T, S, R, H, K, d = 256, 100, 768, 12, 4, 64

    def run(q_THd, reach_T, k_SKd, v_SKd, position_S, codebook, codes_RG, position_R):
        theirs = coded(codebook, codes_RG, K, d)
        if kernel == "table":
            return table_attention(q_THd, reach_T, *theirs, position_R, 0.1)
        return mixed_attention(q_THd, reach_T, k_SKd, v_SKd, position_S, *theirs, position_R, 0.1)

    whole = lambda *sizes: shape(*sizes, dtype=jnp.int32)
    rows = [shape(*sizes, dtype=dtype) for sizes in ((T, H, d), (S, K, d), (S, K, d))]
    codes = (shape(groups, size, 2 * K * d // groups), whole(R, groups), whole(R))
    return run, (rows[0], whole(T), *rows[1:], whole(S), *codes)


PROGRAMS = {
    "search": (search, (shape(8, 1024, 64), shape(256, 512))),
    "search of narrow groups": (search, (shape(64, 20, 8), shape(100, 512))),
    "search of a wide group": (search, (shape(1, 1000, 512), shape(256, 512))),
    "mixed": _attention("mixed", 8, 1024),
    "mixed, bfloat16": _attention("mixed", 8, 64, jnp.bfloat16),
    "mixed, groups across heads": _attention("mixed", 1, 100),
    "mixed, several pieces": _attention("mixed", 32, 16),
    "tables": _attention("table", 8, 64),
    "tables, several pieces": _attention("table", 32, 16),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_program_comes_of_it(program, platform):
    if platform == "cuda" and not TRITON:
        pytest.skip("this jax lowers to Triton with a GPU only")
    run, arguments = PROGRAMS[program]
    text = jax.jit(run).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert CALLS[platform] in text
