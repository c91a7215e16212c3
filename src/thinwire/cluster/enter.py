"""Become a command inside a host: `python enter.py LAUNCHER GROUP CORES NAMESPACE NAME COMMAND...`; the id stays.

Runs by its path with nothing imported but the standard library's smallest parts: it is on the way of every start.
"""

import ctypes
import os
import socket
import sys

_CLONE_NEWUTS = 0x04000000


def main(launcher: str, group: str, cores: str, namespace: str, name: str, *command: str) -> None:
    """Join the control group, take the cores, the host name and the network, and become the command."""
    with open(os.path.join(group, "cgroup.procs"), "w") as file:  # noqa: PTH118, PTH123  pathlib takes long to import
        file.write(str(os.getpid()))
    if os.getppid() != int(launcher):  # it died before this process could be found in the group
        sys.exit(1)
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUTS):
        raise OSError(ctypes.get_errno(), "cannot have a host name of its own")
    socket.sethostname(name)
    os.execvp("ip", ["ip", "netns", "exec", namespace, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
