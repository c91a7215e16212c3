"""A calibration that was broken off goes on where it was."""

import numpy as np
import pytest

import tiny
from thinwire.strategies import parse_strategy
from thinwire.training import quantisers
from thinwire.training.calibrate import CalibrationJob, collect, learn

JOB = CalibrationJob(windows=4, window=30, rows=100)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def samples():
    windows_WT = np.stack([tiny.ids(30, 50 + w) for w in range(4)])
    return collect(tiny.model(), [parse_strategy("sequence:pvq:groups=6:size=8:rank=4")], 1, windows_WT, JOB)


@pytest.mark.parametrize("spec", ["sequence:vq:groups=6:size=8", "sequence:pvq:groups=6:size=8:rank=4:layer0=coded"])
def test_only_the_layers_that_are_missing_are_learnt(spec, samples, tmp_path, monkeypatch):
    model, strategy = tiny.model(), parse_strategy(spec)
    whole = learn(model, strategy, 1, samples, JOB, {}, out=tmp_path / "whole")
    learnt, fit = [], quantisers.learn
    monkeypatch.setattr(quantisers, "learn", lambda *given: learnt.append(1) or fit(*given))

    def kill(done, total):
        if done == 1:
            raise KilledError

    with pytest.raises(KilledError):
        learn(model, strategy, 1, samples, JOB, {}, kill, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert len(learnt) == 1
    found = learn(model, strategy, 1, samples, JOB, {}, out=tmp_path / "set")
    assert len(learnt) == model.config.L
    for site, arrays in whole.arrays.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(found.arrays[site][name], values)
    assert found.manifest.health == whole.manifest.health
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "set"}  # nothing is left behind


def test_other_settings_start_afresh(samples, tmp_path):
    model, strategy = tiny.model(), parse_strategy("sequence:vq:groups=6:size=8")

    def kill(done, total):
        raise KilledError

    for text in ("one", "another"):
        with pytest.raises(KilledError):
            learn(model, strategy, 1, samples, JOB, {"source": text}, kill, tmp_path / "set")
        (left,) = tmp_path.iterdir()
        assert len(list(left.iterdir())) == 1
