"""Configurations in JSON's own types, and back."""

import dataclasses
import json

import pytest

import tiny
import tiny_vit
from thinwire.models.families import FAMILIES
from thinwire.models.llama_config import RopeScaling
from thinwire.models.stored_config import CONFIGS, config_from_dict, config_to_dict

STRETCHED = dataclasses.replace(tiny.CONFIG, tied=False, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32))


def test_every_family_can_be_stored():
    assert CONFIGS.keys() == FAMILIES.keys()


@pytest.mark.parametrize(
    "config", [*tiny.CONFIGS.values(), STRETCHED, tiny_vit.CONFIG], ids=lambda config: type(config).__name__
)
def test_round_trip(config):
    assert config_from_dict(config.family, json.loads(json.dumps(config_to_dict(config)))) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"D": "48"}, "D is '48'"),
        ({"L": 2.5}, "L is 2.5"),
        ({"H": 0}, "H is 0"),
        ({"F": True}, "F is True"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
        ({"rope_scaling": 3}, "rope_scaling is 3"),
        ({"rope_scaling": {"factor": 8.0}}, "RopeScaling lacks 'low_freq_factor'"),
        ({"tied": 1}, "tied is 1"),
        ({"patch": 3}, "LlamaConfig has no 'patch'"),
        ({"K": 2}, "2 heads do not divide 9"),
    ],
)
def test_what_is_no_configuration(change, says):
    with pytest.raises(ValueError, match=says):
        config_from_dict("llama", config_to_dict(tiny.CONFIG) | change)


def test_what_is_missing_or_unknown():
    found = config_to_dict(tiny_vit.CONFIG)
    with pytest.raises(ValueError, match="grid is"):
        config_from_dict("vit", found | {"grid": [4, 5, 6]})
    with pytest.raises(ValueError, match="lacks 'patch'"):
        config_from_dict("vit", {name: value for name, value in found.items() if name != "patch"})
    with pytest.raises(ValueError, match="no family 'mamba', only llama"):
        config_from_dict("mamba", found)
    assert config_from_dict("vit", found | {"classes": 0}).classes == 0
