"""Exact strategies on the real checkpoint: the single device's logits for any number of devices and uneven splits."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from thinwire.engine import Engine
from thinwire.strategies import parse_strategy
from thinwire.weights.load import load_model

pytestmark = pytest.mark.weights
TOLERANCE = 1e-3
TEXT = "A telegraph line carries a message over a wire, one symbol after another, as fast as the wire allows. " * 2
UNEVEN = {3: (1.0, 3.0, 2.0), 5: (2.0, 1.0, 4.0, 1.0, 1.0)}


@functools.cache
def model():
    loaded = load_model("smollm2-135m")
    return dataclasses.replace(loaded, params=jax.device_put(loaded.params))


@functools.cache
def ids():
    return np.array(model().tokenizer.encode(TEXT), np.int32)


@functools.cache
def single():
    return Engine(model(), parse_strategy("single")).logits(ids())


@pytest.mark.parametrize("name", ["sequence", "ring", "tensor"])
@pytest.mark.parametrize("devices", [1, 2, 3, 4, 5, 7])
def test_smollm2_on_several_devices_is_smollm2(name, devices):
    engine = Engine(model(), parse_strategy(f"{name}:float32"), devices, split=UNEVEN.get(devices))
    np.testing.assert_allclose(engine.logits(ids()), single(), atol=TOLERANCE, rtol=0)
