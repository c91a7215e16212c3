"""Tests with emulated hosts are skipped, with the reason, where the machine does not let us have any."""

import os
import subprocess
import time

import pytest

from thinwire.cluster import cpu, tools
from thinwire.errors import ThinwireError


def why_not() -> str | None:
    """What is missing; found without the code that is tested."""
    missing = tools.missing_for_emulation()
    if missing:
        return missing
    probe = f"probe{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"namespaces are not permitted here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    try:
        root = cpu.find_controller().root
    except ThinwireError as error:
        return str(error)
    return None if os.access(root, os.W_OK) else f"{root} is not writable"


REASON = why_not()
needs_emulation = pytest.mark.skipif(REASON is not None, reason=f"no emulated hosts: {REASON}")


def until(condition, seconds: float = 20.0):
    """Waits for something that takes a moment; its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value
