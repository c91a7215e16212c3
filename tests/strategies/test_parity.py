"""Exact strategies give the single device's logits: any number of devices, any split, any site; mesh or virtual."""

import numpy as np
import pytest

import tiny
from thinwire.wire.spmd import make_mesh

TOLERANCE = 1e-5

# (strategy, devices, split)
VIRTUAL = [
    *(
        (name, n, None)
        for name in ("sequence:float32", "ring:float32", "tensor:float32")
        for n in (1, 2, 5, 7)
        if (name, n) != ("ring:float32", 7)
    ),
    ("sequence:float32:site=kv", 3, (1.0, 4.0, 2.0)),
    ("sequence:float32:site=x:layout=zigzag:sink=1", 4, None),
    ("sequence:float32:site=norm", 4, (3.0, 1.0, 1.0, 2.0)),
    ("ring:float32:chunks=3:site=kv:layout=zigzag", 3, (1.0, 4.0, 2.0)),
    ("ring:float32:chunks=2:site=norm:sink=1", 4, None),
    ("ring:float32:chunks=50:site=x", 7, None),
    ("tensor:float32", 4, (1.0, 4.0, 2.0, 2.0)),
    ("tensor:float32", 3, None),
]
MESH = [
    ("sequence:float32:site=kv:sink=1", 8, None),
    ("ring:float32:chunks=2", 3, (1.0, 4.0, 2.0)),
    ("tensor:float32", 8, None),
]


@pytest.mark.parametrize(("spec", "devices", "split"), VIRTUAL)
def test_virtual_devices_equal_one(spec, devices, split):
    found = tiny.engine(spec, devices, split).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=TOLERANCE)


@pytest.mark.parametrize(("spec", "devices", "split"), MESH)
def test_a_mesh_equals_one(spec, devices, split):
    found = tiny.engine(spec, make_mesh(devices), split).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=TOLERANCE)


@pytest.mark.parametrize(("heads", "kv_heads", "devices"), [(4, 2, 3), (4, 4, 5), (6, 1, 4)])
def test_heads_that_do_not_divide(heads, kv_heads, devices):
    """Beside 9 query and 3 key heads above: pairs, ungrouped with an idle device, one key head for all."""
    sizes = {"H": heads, "K": kv_heads}
    found = tiny.engine("tensor:float32", devices, **sizes).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(**sizes), atol=TOLERANCE)


def test_an_untied_head_and_as_many_devices_as_tokens():
    found = tiny.engine("sequence:float32", 5, tied=False).logits(tiny.ids(5))
    np.testing.assert_allclose(found, tiny.single_logits(5, tied=False), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("spec", "devices", "split"),
    [
        ("sequence:vq:groups=6:size=16", 3, (1.0, 2.0, 1.0)),
        ("ring:int8:chunks=2", 3, None),
        ("tensor:int4", 3, None),
    ],
)
def test_a_mesh_equals_virtual_devices_for_codes(spec, devices, split):
    """The same codes fall out of both, at these seeds: logits agree to rounding."""
    virtual = tiny.engine(spec, devices, split).logits(tiny.ids())
    real = tiny.engine(spec, make_mesh(devices), split).logits(tiny.ids())
    np.testing.assert_allclose(real, virtual, atol=TOLERANCE)


@pytest.mark.parametrize("spec", ["sequence:int8:site=x", "tensor:int8"])
def test_a_good_code_is_nearly_exact_and_a_poor_one_is_not(spec):
    exact = tiny.single_logits()
    error = lambda spec: np.abs(tiny.engine(spec, 3).logits(tiny.ids()) - exact).mean()
    fine, coarse = error(spec), error(spec.replace("int8", "int2"))
    assert 1e-5 < fine < 0.1
    assert coarse > 4 * fine
