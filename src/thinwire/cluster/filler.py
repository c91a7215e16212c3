"""Keeps a core awake: `python filler.py LAUNCHER GROUP CORE` spins in a control group that only gets idle time.

A core that sleeps while a host's quota is used up works slower when it wakes: on virtual machines a host of half a core
was found to get a third of one. With its idle time filled it gets the half, whether or not other hosts run beside it.
"""

import os
import sys


def main(launcher: str, group: str, core: str) -> None:
    """Join the group and spin until killed."""
    os.sched_setaffinity(0, [int(core)])
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with open(os.path.join(group, "cgroup.procs"), "w") as file:  # noqa: PTH118, PTH123  pathlib takes long to import
        file.write(str(os.getpid()))
    if os.getppid() != int(launcher):  # it died before this process could be found in the group
        sys.exit(1)
    while True:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
