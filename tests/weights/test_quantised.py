"""Weights rounded to few bits: on which levels they lie, what is left alone, and what they would take."""

import dataclasses

import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy
from thinwire.weights.quantised import FORMATS, WeightFormat, quantised, size_bits

FAMILIES = ("llama", "gpt2", "bert", "vit")


def model(family):
    return tiny_vit.model() if family == "vit" else tiny.model(family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [8, 4])
def test_matrices_are_rounded_and_nothing_else(family, bits):
    base, form = model(family), FORMATS[bits]
    rounded = quantised(base, form)
    assert rounded.params.keys() == base.params.keys()
    assert rounded.params["layers"].keys() == base.params["layers"].keys()
    for before, after in ((base.params, rounded.params), (base.params["layers"], rounded.params["layers"])):
        for name, x in before.items():
            if name == "layers":
                continue
            matrix = name in ("embed", "patch", "head") or name.startswith("w")
            assert np.array_equal(x, after[name]) != matrix, name
            assert after[name].shape == x.shape
            assert after[name].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "inputs"), [("wq", (1,)), ("wv", (1,)), ("wo", (1, 2)), ("w_up", (1,)), ("w_down", (1,))]
)
def test_every_output_channel_has_a_scale_of_its_own(name, inputs):
    """The largest weight of each channel keeps its size, and all lie within half a step."""
    before = model("llama").params["layers"][name]
    after = quantised(model("llama"), FORMATS[8]).params["layers"][name]
    step = np.abs(before).max(axis=inputs, keepdims=True) / 127
    assert (np.abs(after - before) <= 0.51 * step).all()
    largest_before, largest_after = (np.abs(x).max(axis=inputs) for x in (before, after))
    np.testing.assert_allclose(largest_after, largest_before, rtol=1e-3)
    levels = after / np.abs(after).max(axis=inputs, keepdims=True) * 127
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_an_embedding_is_rounded_row_by_row_to_8_bits(bits):
    """It is the head, too, whose inputs are the width."""
    before = model("llama").params["embed"]
    after = quantised(model("llama"), FORMATS[bits]).params["embed"]
    assert (np.abs(after - before) <= 0.51 * np.abs(before).max(axis=1, keepdims=True) / 127).all()


def test_a_group_has_a_scale_of_its_own():
    """100 inputs are three groups of 32 and one of 4."""
    before = model("llama").params["layers"]["w_down"]
    after = quantised(model("llama"), FORMATS[4]).params["layers"]["w_down"]
    for start in range(0, 100, 32):
        part = slice(start, start + 32)
        step = np.abs(before[:, part]).max(axis=1, keepdims=True) / 7
        assert (np.abs(after[:, part] - before[:, part]) <= 0.51 * step).all()
        np.testing.assert_allclose(np.abs(after[:, part]).max(axis=1), np.abs(before[:, part]).max(axis=1), rtol=1e-3)


def test_fewer_bits_are_further_away():
    exact = tiny.single_logits()
    apart = []
    for form in (FORMATS[8], FORMATS[4], WeightFormat(2, 32)):
        found = Engine(quantised(model("llama"), form), parse_strategy("single")).logits(tiny.ids())
        apart.append(np.abs(found - exact).mean())
    assert 0 < apart[0] < apart[1] < apart[2]


def test_what_is_rounded_already_stays():
    once = quantised(model("gpt2"), FORMATS[8])
    twice = quantised(once, FORMATS[8])
    np.testing.assert_allclose(twice.params["layers"]["wq"], once.params["layers"]["wq"], rtol=2e-3, atol=1e-6)


def test_zeros_stay_zeros():
    base = model("llama")
    empty = {**base.params, "layers": {**base.params["layers"], "wq": np.zeros_like(base.params["layers"]["wq"])}}
    rounded = quantised(dataclasses.replace(base, params=empty), FORMATS[4])
    assert not rounded.params["layers"]["wq"].any()


def test_caches_tell_them_apart():
    base = model("llama")
    eight, four = (quantised(base, FORMATS[bits]) for bits in (8, 4))
    assert len({base.sha256, eight.sha256, four.sha256}) == 3
    assert quantised(base, FORMATS[8]).sha256 == eight.sha256
    assert eight.name == "tiny, int8 weights"
    assert four.name == "tiny, int4:group=32 weights"


def test_size():
    base = model("llama")
    c = base.config
    assert size_bits(base, None) == 32 * sum(x.size for x in _leaves(base.params))
    matrices = {"wq": c.H * c.d, "wk": c.K * c.d, "wv": c.K * c.d, "wo": c.D, "w_gate": c.F, "w_up": c.F, "w_down": c.D}
    weights = c.V * c.D + sum(base.params["layers"][name].size for name in matrices)
    others = (1 + 2 * c.L) * c.D
    channels = c.V + c.L * sum(matrices.values())
    assert size_bits(base, FORMATS[8]) == 8 * weights + 16 * (channels + others)
    # Groups of 32: two in 48 inputs, three in 72, four in 100.
    groups = c.V + c.L * (2 * (c.H * c.d + 2 * c.K * c.d + 2 * c.F) + 3 * c.D + 4 * c.D)
    assert size_bits(base, FORMATS[4]) == 4 * weights + 4 * c.V * c.D + 16 * (groups + others)


def _leaves(tree):
    return [x for value in tree.values() for x in (_leaves(value) if isinstance(value, dict) else [value])]


def test_mistakes():
    with pytest.raises(ThinwireError, match="weights of 1 bits are not known; use 2 to 8"):
        WeightFormat(1)
    with pytest.raises(ThinwireError, match="a group of -1 weights"):
        WeightFormat(4, -1)
