"""The thread that waits for messages steps behind those that compute; others stay as they are."""

import os
import select
import sys
import threading
import time
from pathlib import Path

import pytest

from thinwire.cluster.priority import NICE, carry_behind, threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="schedules threads as Linux does")


class Waiting:
    """A thread that waits, for messages or for something else."""

    def __init__(self, for_messages: bool):
        self.reading, self.writing = os.pipe()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._in_epoll if for_messages else self._in_read, daemon=True)
        self.thread.start()
        self.ready.wait()

    def _in_epoll(self):
        with select.epoll() as poll:
            poll.register(self.reading, select.EPOLLIN)
            self.ready.set()
            poll.poll()

    def _in_read(self):
        self.ready.set()
        os.read(self.reading, 1)

    def end(self):
        os.write(self.writing, b".")
        self.thread.join()
        os.close(self.reading)
        os.close(self.writing)


def wchan(waiting):
    return Path(f"/proc/self/task/{waiting.thread.native_id}/wchan").read_text(encoding="ascii")


def test_only_new_threads_that_wait_for_messages_are_changed():
    older = Waiting(for_messages=True)
    before = threads()
    reader, poller = Waiting(for_messages=False), Waiting(for_messages=True)
    try:
        deadline = time.monotonic() + 5
        while not any(name in wchan(poller) for name in ("epoll", "ep_poll")):
            if time.monotonic() > deadline:
                pytest.skip("this system does not tell what threads wait for")
            time.sleep(0.01)
        assert carry_behind(before) == [poller.thread.native_id]
        policies = [os.sched_getscheduler(one.thread.native_id) for one in (older, reader, poller)]
        assert policies == [os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_BATCH]
        nice = [os.getpriority(os.PRIO_PROCESS, one.thread.native_id) for one in (older, poller)]
        assert nice[1] == NICE > nice[0]
    finally:
        for one in (older, reader, poller):
            one.end()


def test_what_the_system_refuses_is_left(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    poller = Waiting(for_messages=True)
    try:
        assert carry_behind(frozenset()) == []
    finally:
        poller.end()
