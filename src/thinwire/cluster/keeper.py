"""Ends what a launcher has started if the launcher is killed: `python keeper.py GROUP...`.

The launcher holds the other end of standard input. When it closes, however that came about, every process in the
control groups is killed. A signal that only reaches direct children would leave those alive that a shell has started.
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(*groups: str) -> None:
    """Wait for the end of standard input, then kill until the groups are empty or gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + 10
    while (alive := [process for group in groups for process in _inside(group)]) and time.monotonic() < deadline:
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _inside(group: str) -> list[int]:
    try:
        return [int(word) for word in (Path(group) / "cgroup.procs").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main(*sys.argv[1:])
