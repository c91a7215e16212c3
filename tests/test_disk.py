"""What a run needs of the disk: whole files, a lock, a quiet log."""

import errno
import logging
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from thinwire import disk


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    disk.write_whole(tmp_path / "file", b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        disk.write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}
    monkeypatch.undo()
    disk.write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_the_log_is_quiet_until_the_last_thread_is_done():
    logger = logging.getLogger("absl")
    level = logger.level
    inside, leave = threading.Event(), threading.Event()

    def work():
        with disk.quiet():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    with disk.quiet():  # begun second, done last
        leave.set()
        thread.join()
        assert not logger.isEnabledFor(logging.CRITICAL)
    assert logger.level == level


def test_only_late_callbacks_are_dropped(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    for _ in range(2):  # the second time finds it done
        with disk.quiet():
            pass
    hook = sys.unraisablehook
    event = lambda error, where=None: SimpleNamespace(exc_value=error, object=where)
    hook(event(RuntimeError("Event loop is closed")))
    others = [event(RuntimeError("x")), event(ValueError("Event loop is closed")), event(RuntimeError("Event loop"), 1)]
    for other in others:
        hook(other)
    assert told == others


def test_a_lock_is_another_process_s_until_that_is_dead(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom thinwire.disk import take\n"
        "handle = take(Path(sys.argv[1]))\nprint(handle is not None, flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert disk.take(tmp_path / "lock") is None
        other.kill()
        other.wait()
    handle = disk.take(tmp_path / "lock")
    assert handle is not None
    os.close(handle)
