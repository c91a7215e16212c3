"""Layers one after another instead of in a scan: the same numbers and bytes."""

import contextlib

import numpy as np
import pytest

import tiny
from thinwire import engine
from thinwire.engine import Engine
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


@pytest.mark.parametrize("spec", ["single", "sequence:pvq:groups=6:size=16"])
def test_weights_that_wait_are_the_same_weights(spec, monkeypatch):
    strategy, ids = parse_strategy(spec), tiny.ids()
    where, codecs = 1 if spec == "single" else make_mesh(2), tiny.codebooks(strategy, tiny.dims())
    make = lambda where=where, unrolled=True: Engine(
        tiny.model(), strategy, where, codecs, dtype="bfloat16", unrolled=unrolled
    )
    waiting = make()
    waits = lambda made: "ui16" in made.lower(len(ids))[0].as_text()  # as bits of a weight
    assert waits(waiting)
    assert not waits(make(unrolled=False))
    # Virtual devices share their weights: none of them may wait for what one device computes.
    assert spec == "single" or not waits(make(where=2))
    found = waiting.logits(ids)
    monkeypatch.setattr(engine, "weights_wait", lambda wait: contextlib.nullcontext())
    np.testing.assert_array_equal(make().logits(ids), found)
