"""Products of bfloat16 that sum in float32, in every model and in the codecs around it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire import matmul as module
from thinwire.engine import Engine
from thinwire.matmul import cpu_multiplies_bfloat16, matmul
from thinwire.strategies import parse_strategy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_product_is_summed_and_given_in_float32(dtype):
    keys = jax.random.split(jax.random.key(0))
    x_TD, w_DE = jax.random.normal(keys[0], (5, 300), dtype), jax.random.normal(keys[1], (300, 4), dtype)
    exact = np.asarray(x_TD, np.float64) @ np.asarray(w_DE, np.float64)
    found = matmul(x_TD, w_DE)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, atol=1e-4)  # sums rounded to bfloat16 would be off by up to 0.06


@pytest.mark.parametrize(
    "spec", ["single", "sequence:pvq:groups=6:size=16:rank=8:bottleneck=7", "sequence:vq:groups=1:size=64"]
)
def test_no_product_of_a_pass_in_bfloat16_gives_bfloat16(spec):
    """XLA's CPU backend of jax 0.10 would compute those in float32."""
    strategy = parse_strategy(spec)
    codecs = tiny.codebooks(strategy, tiny.dims()) if strategy.codec.learns else {}
    engine = Engine(tiny.model(), strategy, 1 if spec == "single" else 2, codecs, dtype="bfloat16")
    program = engine.lower(tiny.TOKENS)[0].as_text()
    products = re.findall(r"stablehlo.dot_general .*: \(tensor<[\dx]*x(\w+)>, .*\) -> tensor<[\dx]*x(\w+)>", program)
    assert ("bf16", "f32") in products
    assert not [kinds for kinds in products if kinds[1] == "bf16"]


def test_factors_of_a_codec_are_of_the_models_type_and_nothing_else():
    strategy = parse_strategy("sequence:pvq:groups=1:size=512:rank=8")
    codecs = tiny.codebooks(strategy, tiny.dims())
    of = lambda dtype: Engine(tiny.model(), strategy, 2, codecs, dtype=dtype).codecs
    types = {name: x.dtype for tree in of("bfloat16").values() for name, x in tree.items()}
    assert {name for name, dtype in types.items() if dtype == jnp.bfloat16} == strategy.codec.factors & types.keys()
    assert {"predict", "analysis", "synthesis", "project"} <= strategy.codec.factors & types.keys()
    assert types["codebook"] == types["bias"] == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(of("float32"))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("text", "can"),
    [("flags : fpu avx512f avx512_bf16 sse", True), ("Features : asimd bf16", True), ("flags : fpu avx512f", False)],
)
def test_what_linux_says_of_the_cpu(tmp_path, monkeypatch, text, can):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}\n")
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu_multiplies_bfloat16.__wrapped__() == can
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "none")
    assert not cpu_multiplies_bfloat16.__wrapped__()


def test_attention_of_a_cpu_with_and_without_instructions_is_the_same_but_for_rounding(monkeypatch):
    from thinwire.attention import partial

    monkeypatch.setattr(partial, "_CPU_TOGETHER", 0)
    keys = jax.random.split(jax.random.key(1), 3)
    q, k, v = (jax.random.normal(key, (9, heads, 8), "bfloat16") for key, heads in zip(keys, (4, 2, 2), strict=True))
    visible = jnp.tril(jnp.ones((9, 9), bool))

    def attended(can):
        monkeypatch.setattr(partial, "cpu_multiplies_bfloat16", lambda: can)
        part = partial.partial_attention(q, k, v, visible, 0.3)
        return partial.finish(part)

    np.testing.assert_allclose(attended(True), attended(False), atol=0.02)
    exact = partial.finish(partial.partial_attention(*(x.astype("float32") for x in (q, k, v)), visible, 0.3))
    np.testing.assert_allclose(attended(False), exact, atol=1e-5)
