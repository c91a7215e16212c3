"""gloo's thread, kept from getting in the way of the thread whose message it is to carry.

Whoever sends holds a lock of the connection. When something arrives meanwhile, gloo's own thread wakes up, finds the
lock taken, and tries again at once and without end. On a host of one core it has just taken that core from the one
that holds the lock, so both wait until the time slice is over: 4 ms for an exchange that needs 0.2. Woken threads of
the batch class take no core from others (sched(7)), and with a higher nice value their turns come later too.
"""

import contextlib
import os
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_WAITS_IN = ("do_epoll_wait", "ep_poll")
NICE = 10
_LOOKS, _BETWEEN_LOOKS_S = 20, 0.01


def threads() -> frozenset[int]:
    """The threads of this process; none where the system does not tell."""
    return frozenset(int(task.name) for task in _TASKS.iterdir()) if _TASKS.is_dir() else frozenset()


def carry_behind(before: frozenset[int]) -> list[int]:
    """Puts those threads into the batch class that wait for messages and were not there before.

    Where the system does not tell what threads wait for, or does not let them be changed, all stays as it is: then
    exchanges are slower on hosts of one core.

    Args:
        before: the threads before JAX made its collectives.

    Returns:
        The threads that were changed.
    """
    for _ in range(_LOOKS):
        if found := [thread for thread in sorted(threads() - before) if _waits_for_messages(thread)]:
            return [thread for thread in found if _put_behind(thread)]
        time.sleep(_BETWEEN_LOOKS_S)  # one that has only just been made may not wait yet
    return []


def _waits_for_messages(thread: int) -> bool:
    with contextlib.suppress(OSError):
        return (_TASKS / str(thread) / "wchan").read_text(encoding="ascii").strip() in _WAITS_IN
    return False


def _put_behind(thread: int) -> bool:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, thread, NICE)
        return True
    return False
