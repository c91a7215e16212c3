"""The sharded forward is compiled for what nobody here has: eight CPUs, GPUs or TPUs."""

import importlib.util

import jax
import numpy as np
import pytest
from jax import export

import tiny
from thinwire.wire.spmd import make_mesh

COLLECTIVES = {
    "sequence:vq:groups=6:size=1024": ["all_gather"],
    "ring:float32": ["collective_permute"],
    "tensor:int8": ["all_to_all", "all_gather"],
}


@pytest.mark.parametrize("spec", COLLECTIVES)
def test_lowers_for_cpu_cuda_and_tpu(spec):
    engine = tiny.engine(spec, make_mesh(8))
    program = engine._build(tiny.TOKENS, "last")
    ids = jax.ShapeDtypeStruct((tiny.TOKENS,), np.int32)
    exported = export.export(program, platforms=["cpu", "cuda", "tpu"])(engine._params, engine._codecs, ids)
    assert exported.nr_devices == 8
    assert exported.platforms == ("cpu", "cuda", "tpu")
    text = exported.mlir_module()
    for name in COLLECTIVES[spec]:
        assert f"stablehlo.{name}" in text
    assert "stablehlo.all_reduce" not in text  # sums are made of what was decoded, not on the way
    if importlib.util.find_spec("flatbuffers"):  # JAX serialises with it, and does not depend on it
        back = export.deserialize(exported.serialize())
        assert back.nr_devices == 8
        assert back.platforms == exported.platforms
