"""Processes that belong together, here without hosts."""

import os
import signal
import subprocess
import sys

import pytest

from thinwire.cluster.running import HostError, Running, shell_code
from thinwire.errors import ThinwireError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="runs shells and sends signals")


def started(*scripts):
    processes = [
        subprocess.Popen(
            ["sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for script in scripts
    ]

    def signal_all(number):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, number)

    return Running(processes, [f"h{n}" for n in range(len(scripts))], signal_all)


def test_all_end_well():
    with started("exit 0", "exit 0") as running:
        assert running.wait(60) == (0, 0)


def test_the_first_that_dies_is_named_however_late_one_asks():
    with started("sleep 600", "echo broken pipe of paper >&2; exit 4", "sleep 600") as running:
        running.processes[1].wait(60)
        with pytest.raises(HostError, match=r"h1 ended with exit code 4.*broken pipe of paper") as error:
            running.wait(60)
        assert (error.value.host, error.value.code) == (1, 4)
        assert running.processes[2].returncode == -signal.SIGTERM


def test_a_signal_is_named():
    with started("kill -9 $$", "sleep 600") as running, pytest.raises(HostError, match="h0 was killed by SIGKILL") as e:
        running.wait(60)
    assert shell_code(e.value.code) == 137


def test_those_that_are_late_are_named_and_ended():
    with started("exit 0", "sleep 600") as running:
        with pytest.raises(ThinwireError, match="h1 did not end within 1 s"):
            running.wait(1)
        assert running.processes[1].returncode is not None


def test_who_does_not_listen_is_killed():
    with started("trap '' TERM; echo ready; while :; do sleep 1; done") as running:
        assert running.processes[0].stdout.readline() == "ready\n"
        running.end()
        assert running.processes[0].returncode == -signal.SIGKILL


def test_one_that_had_ended_without_an_error_is_told_of():
    with started("exit 0", "sleep 0.5; exit 3") as running, pytest.raises(HostError) as error:
        running.wait(60)
    assert "h1 ended with exit code 3" in str(error.value)
    assert "; h0 had ended by itself after 0." in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_one_that_stands_still_is_told_of():
    with started("kill -STOP $$; sleep 600", "sleep 0.5; exit 3", "sleep 600") as running:
        with pytest.raises(HostError, match=r"h1 ended with exit code 3.*; h0 was stopped") as error:
            running.wait(60)
        assert "h2" not in str(error.value)
        assert running.processes[0].returncode == -signal.SIGKILL
