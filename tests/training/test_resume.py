"""A run goes on only with the settings that it was begun with."""

import dataclasses
from pathlib import Path

import jax
import pytest

from thinwire.errors import ThinwireError
from thinwire.training.resume import MAY_CHANGE, check_same_config, check_same_run, describe


@dataclasses.dataclass(frozen=True)
class Recipe:
    strategy: str = "sequence:vq:groups=16"
    devices: tuple[int, ...] = (2, 4)
    noise: float = 0.1


@dataclasses.dataclass(frozen=True)
class Job:
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    seed: int = 0
    steps: int = 100
    keep: int = 3
    out: Path | None = None


DATA = {"source": "a text", "sha256": "ab" * 32}


def test_a_run_is_told_as_json_holds_it():
    told = describe(Job(out=Path("/x")), DATA)
    assert told["config"]["recipe"] == {"strategy": "sequence:vq:groups=16", "devices": [2, 4], "noise": 0.1}
    assert told["config"]["out"] == "/x"
    assert told["data"] == DATA
    assert told["versions"]["jax"] == jax.__version__
    assert set(told["versions"]) == {"jax", "thinwire"}


def test_the_same_settings_and_those_that_may_change():
    check_same_run(describe(Job(), DATA), describe(Job(steps=200, keep=1, out=Path("/y")), DATA))
    check_same_config({"a": (1, 2), "b": {}}, {"b": {}, "a": [1, 2]})
    for name in MAY_CHANGE:
        check_same_config({"part": {name: 1, "seed": 0}}, {"part": {"seed": 0}, name: 2})


def test_other_versions_go_on():
    old = describe(Job(), DATA)
    check_same_run({**old, "versions": {"jax": "0.0.1"}}, describe(Job(), DATA))


@pytest.mark.parametrize(
    ("job", "data", "says"),
    [
        (Job(seed=1), DATA, r"\(config.seed: 0 -> 1\)"),
        (Job(Recipe(devices=(4,))), DATA, r"config.recipe.devices: \[2, 4\] -> \[4\]"),
        (
            Job(Recipe("sequence:int8"), 5),
            DATA,
            "vq:groups=16 -> sequence:int8, config.seed: 0 -> 5",
        ),
        (Job(), {"source": "a text", "sha256": "cd"}, "data.sha256: abab"),
        (Job(), {"source": "a text"}, "data.sha256: (ab)+ -> not set"),
        (Job(), {**DATA, "words": None}, "data.words: not set -> null"),
    ],
)
def test_every_difference_is_named(job, data, says):
    with pytest.raises(ThinwireError, match=says) as caught:
        check_same_run(describe(Job(), DATA), describe(job, data))
    assert "begin anew in another folder" in str(caught.value)


def test_many_differences_stay_one_sentence():
    old = {f"field{n}": n for n in range(20)}
    with pytest.raises(ThinwireError, match="field5: 5 -> 6, and 14 more") as caught:
        check_same_config(old, {name: value + 1 for name, value in old.items()})
    assert "field6" not in str(caught.value)


def test_a_part_that_was_not_there():
    with pytest.raises(ThinwireError, match=r"noise\.mean: not set -> 1"):
        check_same_config({"noise": {}}, {"noise": {"mean": 1}})
