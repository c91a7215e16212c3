"""The system's own programs that emulation needs (`ip`, `tc`), and whether it can be had on this machine at all."""

import os
import shutil
import subprocess
import sys

from thinwire.errors import ThinwireError

INSTEAD = "`thinwire compare` predicts latency on virtual devices instead"


def require_emulation() -> None:
    """Refuse, in one sentence, where hosts cannot be emulated: no Linux, no root, no iproute2."""
    missing = missing_for_emulation()
    if missing:
        raise ThinwireError(f"Hosts and links cannot be emulated here: {missing}; {INSTEAD}.")


def missing_for_emulation() -> str | None:
    """What is missing for emulation on this machine, as half a sentence; None if nothing is."""
    if not sys.platform.startswith("linux"):
        return f"network namespaces are a part of Linux and this is {sys.platform}"
    if os.geteuid() != 0:
        return "network namespaces need root (try `sudo`, with the same Python)"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"the program `{program}` is missing (install the package iproute2)"
    return None


def call(*command: str, stdin: str | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        ThinwireError: with what it said, if it failed.
    """
    # A session of its own: Ctrl-C in a terminal must not stop it halfway.
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, start_new_session=True)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ThinwireError(f"`{' '.join(command)}` failed: {said}")
    return done.stdout


def batch(program: str, namespace: str, *lines: str) -> None:
    """Run several `ip` or `tc` commands in one namespace by one process."""
    call(program, "-n", namespace, "-batch", "-", stdin="".join(f"{line}\n" for line in lines))
