"""Variants of a training: by name, to another strategy, or several changes at once."""

import dataclasses
from pathlib import Path

import pytest

from thinwire.errors import ThinwireError
from thinwire.training.ablation import VARIANTS, distinct, variant
from thinwire.training.image_run import ImageRun
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session

CONFIG = ImageRun(
    session=Session(Path("runs/none")),
    out=Path("trained/none"),
    recipe=Recipe("sequence:vq:groups=4:size=16:site=x", devices=(4,), commitment=2e-4, noise=1.0),
    optimiser=Optimiser(rate=1e-3, steps=100),
)


def test_every_name_changes_something_but_the_first():
    recipes = [variant(CONFIG, name).recipe for name in VARIANTS]
    assert recipes[0] == CONFIG.recipe
    same = [name for name, recipe in zip(VARIANTS, recipes, strict=True) if recipe == CONFIG.recipe]
    assert same == ["as-configured", "noise=1"]  # which this configuration has already
    assert distinct(CONFIG) == [name for name in VARIANTS if name != "noise=1"]


def test_another_strategy_keeps_the_rest_of_the_recipe():
    changed = variant(CONFIG, "sequence:fsq:dims=5:levels=3:site=kv")
    assert changed.recipe.strategy == "sequence:fsq:dims=5:levels=3:site=kv"
    assert (changed.recipe.commitment, changed.recipe.noise) == (2e-4, 1.0)
    assert changed.session == CONFIG.session


def test_changes_are_made_in_their_order():
    changed = variant(CONFIG, "sequence:vq:groups=2:size=8:site=x/one-class-token/noise=0")
    assert changed.recipe.strategy == "sequence:vq:groups=2:size=8:site=x:class_tokens=one"
    assert changed.recipe.noise == 0
    assert variant(CONFIG, "one-class-token/sequence:int8").recipe.strategy == "sequence:int8"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "no variant 'nonsense'"),
        ("noise=0/nonsense", "no variant 'nonsense'"),
        ("noise=0/", "no variant ''"),
        ("sequence:nonsense:groups=2", "nonsense"),
        ("ring:int8", "not trained"),
        ("sequence:int8:site=kv/groups=32", "has no groups to change; leave that out"),
    ],
)
def test_what_is_no_variant(name, said):
    with pytest.raises(ThinwireError, match=said):
        variant(CONFIG, name).recipe.parsed()


def test_a_single_device_has_nothing_to_vary():
    alone = dataclasses.replace(CONFIG, recipe=Recipe("single", devices=(1,), noise=0.0))
    with pytest.raises(ThinwireError, match="codes no context"):
        variant(alone, "noise=0.3")
