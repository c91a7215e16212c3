"""Layers one after another instead of in a scan: the same numbers and bytes."""

import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.engine import Engine
from thinwire.models.families import FAMILIES
from thinwire.strategies import parse_strategy
from thinwire.wire.spmd import make_mesh


@pytest.mark.parametrize(
    "spec", ["single", "sequence:vq:groups=6:size=16", "sequence:pvq:groups=6:size=16", "tensor:int8"]
)
def test_unrolled_is_the_scan(spec):
    strategy, model = parse_strategy(spec), tiny.model()
    where = 1 if spec == "single" else make_mesh(2)
    codecs = tiny.codebooks(strategy, tiny.dims())
    ids = tiny.ids()
    rolled, unrolled = (Engine(model, strategy, where, codecs, unrolled=flag) for flag in (False, True))
    np.testing.assert_allclose(unrolled.logits(ids), rolled.logits(ids), atol=1e-4)
    (_, counted), (lowered, expected) = unrolled.lower(len(ids)), rolled.lower(len(ids))
    assert sorted(map(str, counted.entries)) == sorted(map(str, expected.entries))
    assert "while" in lowered.as_text()


def test_sines_are_computed_once_for_all_heads_and_layers():
    single = Engine(tiny.model(), parse_strategy("single"), unrolled=True)
    single.prepare(tiny.TOKENS, "last")
    program = single.program_text(tiny.TOKENS)
    assert [program.count(name) for name in (" cosine(", " sine(")] == [1, 1]


@pytest.mark.parametrize("spec", ["single", "sequence:vq:groups=6:size=16", "sequence:vq:groups=1:size=16"])
def test_layers_use_the_same_memory_one_after_another(spec):
    """XLA would rather make what all layers' loops begin with at the start of the program, where it waits for them."""
    strategy = parse_strategy(spec)

    def peak(layers: int) -> int:
        model = tiny_vit.model(L=layers)
        dims = FAMILIES["vit"].dims(model.config)
        devices = 1 if spec == "single" else 2
        engine = Engine(model, strategy, devices, tiny.codebooks(strategy, dims), unrolled=True)
        return engine.alone(tiny_vit.TOKENS, 0)[0].memory_analysis().temp_size_in_bytes

    assert peak(8) < 1.2 * peak(2)
