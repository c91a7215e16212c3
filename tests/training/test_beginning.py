"""What a training begins with: random weights, a model by its name, or what another training left."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.strategies import Single
from thinwire.training import artefact, beginning
from thinwire.training.adapters import LoRA
from thinwire.training.artefact import Artefact, describe
from thinwire.training.beginning import Part
from training.trained import LORA, trained


@dataclasses.dataclass(frozen=True)
class Asked:
    """A configuration, as far as it says how training begins."""

    model: str = "tiny"
    start: Path | None = None
    train: Part = "adapter"
    lora: LoRA = LORA
    seed: int = 0


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(beginning, "load_model", lambda name: tiny.model())


def none():
    raise AssertionError("no random weights were wanted")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def computed(begun):
    """The weights that the first step computes with."""
    return begun.part.merge(begun.part.start, begun.part.frozen)


@pytest.mark.parametrize("train", ["adapter", "weights", "codebooks"])
def test_a_model_by_its_name(train):
    begun = beginning.beginning(Asked(train=train), none)
    same(computed(begun), tiny.model().params)
    assert (begun.lora is not None) == (train == "adapter")
    assert not begun.scratch


@pytest.mark.parametrize("train", ["adapter", "weights"])
def test_an_adapter_is_gone_on_with(tmp_path, train):
    left = artefact.save(tmp_path / "left", trained())
    begun = beginning.beginning(Asked(start=tmp_path / "left", train=train, lora=LoRA(rank=1)), none)
    want = artefact.apply(left, tiny.model()).params
    same(computed(begun), want)
    same(begun.model.params, want)  # what a teacher computes
    same(begun.base.params, tiny.model().params)
    if train == "adapter":
        assert begun.lora == LORA  # its own, not the one that was asked for
        same(begun.part.start, left.arrays)


def test_weights_from_scratch_are_gone_on_with(tmp_path):
    model = tiny.model()
    card = describe(model, Single(), None, {}, 0, "make it", from_scratch=True)
    artefact.save(tmp_path / "left", Artefact(card, model.params))
    begun = beginning.beginning(Asked(start=tmp_path / "left", train="weights"), none)
    same(computed(begun), model.params)
    assert begun.scratch
    assert begun.before.command == "make it"
    with pytest.raises(ThinwireError, match="train=weights"):
        beginning.beginning(Asked(start=tmp_path / "left"), none)


def test_random_weights_get_no_adapter():
    with pytest.raises(ThinwireError, match="no base model that an adapter could be kept for; use train=weights"):
        beginning.beginning(Asked(model="scratch"), tiny.model)
    assert beginning.beginning(Asked(model="scratch", train="weights"), tiny.model).scratch
