"""Runs of training that are broken off, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compiling import FLAGS
from thinwire.errors import ThinwireError
from thinwire.training.log import read_log
from thinwire.training.loop import Pace
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session, run_session
from training import session_worker
from training_setups import state_of, text_setup, texts

SECONDS = 120


def curve(folder):
    return {record["step"]: record["loss"] for record in read_log(folder)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The curve of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    session_worker.main(folder, resume=False)
    found = curve(folder)
    assert list(found) == list(range(1, session_worker.STEPS + 1))
    return found


@pytest.mark.parametrize("after", [1, 3, pytest.param(7, marks=pytest.mark.thorough)])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(after, whole, tmp_path):
    folder, tests = tmp_path / "run", Path(__file__).parent.parent
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "XLA_FLAGS": FLAGS,
    }
    command = [sys.executable, session_worker.__file__, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + SECONDS
        while not (folder / "metrics.jsonl").exists() or len(curve(folder)) < after:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < until, "it did not get that far"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(curve(folder)) < session_worker.STEPS
    session_worker.main(folder, resume=True)
    resumed = curve(folder)
    assert list(resumed) == list(whole)
    np.testing.assert_allclose(list(resumed.values()), list(whole.values()), rtol=1e-6)


def test_a_run_is_resumed_with_its_own_settings_only(tmp_path):
    setup = text_setup(Recipe("single", devices=(1,), noise=0.0), steps=4)
    pace = Pace(batch=2, save_every=1)
    run = lambda config, resume: run_session(
        Session(tmp_path, resume=resume), config, {}, setup, state_of(setup), texts(setup, 2), pace
    )
    with pytest.raises(ThinwireError, match="no run to resume"):
        run({"rate": 1.0}, True)
    run({"rate": 1.0}, False)
    with pytest.raises(ThinwireError, match=r"session\.resume"):
        run({"rate": 1.0}, False)
    with pytest.raises(ThinwireError, match=r"rate: 1\.0 -> 2\.0"):
        run({"rate": 2.0}, True)


def test_a_loss_that_is_no_number_leaves_the_last_good_state(tmp_path):
    setup = text_setup(Recipe("single", devices=(1,), noise=0.0), steps=6, rate=1e30)
    pace = Pace(batch=2, log_every=1, save_every=1)
    with pytest.raises(ThinwireError, match=r"loss of step \d+ is .*the state of step \d+ was kept last"):
        run_session(Session(tmp_path), {}, {}, setup, state_of(setup), texts(setup, 2), pace)
    found = curve(tmp_path)
    assert found
    assert all(np.isfinite(list(found.values())))
