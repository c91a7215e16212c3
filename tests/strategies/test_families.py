"""Every family by every strategy: exact codecs give the single device's outputs, codes are all that crosses."""

import numpy as np
import pytest

import tiny
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import make_mesh

FAMILIES = ["gpt2", "bert"]
# (strategy, devices, split)
EXACT = [
    ("sequence:float32", 1, None),
    ("sequence:float32:site=x", 3, (1.0, 4.0, 2.0)),
    ("sequence:float32:site=norm:layout=zigzag", 2, None),
    ("ring:float32:site=kv:chunks=3", 3, (1.0, 4.0, 2.0)),
    ("ring:float32", 5, None),
    ("tensor:float32", 5, None),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("spec", "devices", "split"), EXACT)
def test_several_devices_equal_one(family, spec, devices, split):
    found = tiny.engine(spec, devices, split, family=family).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(family=family), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "spec", "shared"),
    [("gpt2", "sequence:vq:groups=6:size=16", 1), ("bert", "ring:vq:groups=6:size=16:chunks=1", 0)],
)
def test_codes_are_all_that_crosses(family, spec, shared):
    """Formula, ledger and compiled program agree on ⌈rows·G·4/8⌉ bytes to each other device and layer."""
    engine = tiny.engine(spec, make_mesh(3), (1.0, 2.0, 3.0), family=family)
    lowered, ledger = engine.lower(tiny.TOKENS)
    rows = engine.layout(tiny.TOKENS).rows
    assert engine.layout(tiny.TOKENS).shared == shared  # only a causal model's token 0 can be recomputed
    expected = (2 * 2 * -(-rows * 6 * 4 // 8),) * 3
    assert engine.traffic(tiny.TOKENS).bytes_by_device == expected
    assert ledger.bytes_by_device() == expected
    assert audit_hlo(lowered.compile().as_text()).bytes_by_device() == expected


def test_tensor_parallelism_counts_its_bytes():
    engine = tiny.engine("tensor:int8", make_mesh(3), family="bert")
    lowered, ledger = engine.lower(tiny.TOKENS)
    expected = engine.traffic(tiny.TOKENS).bytes_by_device
    assert ledger.bytes_by_device() == expected == audit_hlo(lowered.compile().as_text()).bytes_by_device()


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_0_is_recomputed_from_tokens_and_positions(family):
    """By a predictive codec: with one layer nothing is lost and nothing sent."""
    engine = tiny.engine("sequence:pvq:groups=6:size=8:rank=7", 3, family=family, L=1)
    np.testing.assert_allclose(engine.logits(tiny.ids(13)), tiny.single_logits(13, family=family, L=1), atol=1e-5)
    assert engine.traffic(13).bytes_by_device == (0, 0, 0)
