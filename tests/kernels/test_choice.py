"""The switch, and whole passes with each choice."""

import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.attention import code_table
from thinwire.errors import ThinwireError
from thinwire.kernels import code_table as tables
from thinwire.kernels import mixed, search
from thinwire.kernels.choice import VARIABLE, chosen, using
from thinwire.wire.spmd import make_mesh


def test_auto_is_the_default_and_choices_nest(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen() == "auto"
    with using("tables"):
        with using("pallas"):
            assert chosen() == "pallas"
        assert chosen() == "tables"
    assert chosen() == "auto"


def test_the_environment_is_asked_where_nothing_else_is_said(monkeypatch):
    monkeypatch.setenv(VARIABLE, "tables")
    assert chosen() == "tables"
    with using("jax"):
        assert chosen() == "jax"
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(
        ThinwireError, match=r"THINWIRE_KERNELS=cuda is unknown; use one of auto, jax, tables, pallas\."
    ):
        chosen()


def test_an_engine_keeps_what_was_chosen_when_it_was_made():
    with using("tables"):
        engine = tiny_vit.engine("sequence:vq:groups=12:size=4", 3)
    assert engine.kernels == "tables"
    engine.lower(tiny_vit.TOKENS)
    assert chosen() == "auto"


def _program(engine, tokens) -> str:
    return engine.lower(tokens, "all")[0].as_text()


def test_auto_is_tables_and_the_others_are_programs_of_their_own():
    def program(kernels):
        with using(kernels):
            return _program(tiny_vit.engine("sequence:vq:groups=12:size=4", 3), tiny_vit.TOKENS)

    assert program("auto") == program("tables")
    assert program("tables") != program("jax")
    assert program("pallas") != program("tables")


VIT = {
    "groups=12:size=4": "merged",  # one code a key, fewer codewords than rows
    "groups=24:size=2": "tables",  # two
    "groups=16:size=64": "decoded",
    "groups=1:size=3": "merged",  # of a group that lies in all heads
}


@pytest.mark.parametrize("kernels", ["tables", "pallas"])
@pytest.mark.parametrize("codec", VIT)
def test_a_pass_of_a_vision_transformer_is_the_same(codec, kernels, monkeypatch):
    spec, image = f"sequence:vq:{codec}", tiny_vit.image()
    with using("jax"):
        expected = tiny_vit.engine(spec, 3, (3.0, 2.0, 1.0)).logits(image)
    taken = _record(monkeypatch, code_table, "best_form")
    searched = _record(monkeypatch, search, "search")
    by_kernel = [
        _record(monkeypatch, room, name) for room, name in ((tables, "table_attention"), (mixed, "mixed_attention"))
    ]
    with using(kernels):
        found = tiny_vit.engine(spec, 3, (3.0, 2.0, 1.0)).logits(image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert set(taken) == {VIT[codec]}
    assert bool(searched) == (kernels == "pallas")
    used = [bool(calls) for calls in by_kernel]
    assert used == [kernels == "pallas" and VIT[codec] == form for form in ("tables", "decoded")]


def test_on_a_mesh_it_is_the_same():
    spec, image = "sequence:vq:groups=16:size=64", tiny_vit.image()
    with using("pallas"):
        found = tiny_vit.engine(spec, make_mesh(3)).logits(image)
    np.testing.assert_allclose(found, tiny_vit.engine(spec, 3).logits(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_pass_of_a_language_model_is_the_same(family, monkeypatch):
    spec = "sequence:vq:groups=6:size=16"
    expected = tiny.engine(spec, 3, family=family).logits(tiny.ids())
    searched = _record(monkeypatch, search, "search")
    with using("pallas"):
        found = tiny.engine(spec, 3, family=family).logits(tiny.ids())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert searched


def _record(monkeypatch, module, name: str) -> list:
    """What a function returns from now on."""
    returned, function = [], getattr(module, name)

    def recording(*args, **kwargs):
        returned.append(function(*args, **kwargs))
        return returned[-1]

    monkeypatch.setattr(module, name, recording)
    return returned
