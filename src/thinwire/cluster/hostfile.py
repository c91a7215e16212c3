"""Real hosts from a file: the same command on each by ssh, or one command to paste per host.

A line is `user@address [options of ssh]`, as `pi@192.0.2.11 -p 2222`; what stands behind # is a remark. The first is
host 0, whose address all others must reach.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.cluster.rendezvous import DEFAULT_PORT, DEFAULT_START_TIMEOUT_S, Rendezvous, exchange_of
from thinwire.cluster.running import IN_LINES, LineSink, Running
from thinwire.cluster.specs import read_lines
from thinwire.errors import ThinwireError

CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True)
class RealHost:
    """One line of a host file."""

    target: str  # of ssh: user@address or address
    options: tuple[str, ...] = ()  # of ssh

    @property
    def address(self) -> str:
        """The target without its user."""
        return self.target.rpartition("@")[2]


def read_hosts(path: str | Path) -> list[RealHost]:
    """The hosts of a file.

    Raises:
        ThinwireError: naming the line that is wrong.
    """
    hosts = []
    for number, line in enumerate(read_lines(path, "host file"), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ThinwireError(f"{path}, line {number}: {error}; close the quotation.") from None
        if not words:
            continue
        host = RealHost(words[0], tuple(words[1:]))
        if host.target.startswith("-") or not host.address or "/" in host.target:
            raise ThinwireError(f"{path}, line {number}: {words[0]!r} is no user@address, as pi@192.0.2.11.")
        hosts.append(host)
    if not hosts:
        raise ThinwireError(f"The host file {path} names no host: write one `user@address` a line.")
    return hosts


def remote_commands(
    hosts: Sequence[RealHost],
    command: Sequence[str],
    port: int = DEFAULT_PORT,
    start_timeout_s: float | int = DEFAULT_START_TIMEOUT_S,
    folder: str | None = None,
) -> list[str]:
    """What a shell on each host must run: the command with the variables of the rendezvous, in `folder` if given."""
    if not command:
        raise ThinwireError("There is no command to run: give one behind `--`.")
    if not 0 < port < 65536:
        raise ThinwireError(f"{port} is no port: give one from 1 to 65535.")
    lines, exchange = [], exchange_of(os.environ)
    for host in range(len(hosts)):
        meeting = Rendezvous(hosts[0].address, port, len(hosts), host, start_timeout_s, exchange)
        variables = (f"{name}={shlex.quote(value)}" for name, value in meeting.environment().items())
        go = f"cd {shlex.quote(folder)} && " if folder else ""
        lines.append(f"{go}env {' '.join(variables)} {shlex.join(command)}")
    return lines


def start_by_ssh(
    hosts: Sequence[RealHost], lines: Sequence[str], stdout: int = subprocess.PIPE, error_sink: LineSink | None = None
) -> Running:
    """Run a shell line on each host by ssh, without asking for passwords; to be used as a context manager.

    What runs there is ended when its ssh ends here, however that comes about.
    """
    if shutil.which("ssh") is None:
        raise ThinwireError("Real hosts are reached by `ssh`, which is missing: install it, or use --print.")
    processes: list[subprocess.Popen] = []

    def signal_all(number: int) -> None:
        for process in processes:
            if number == signal.SIGTERM and process.stdin is not None:
                process.stdin.close()  # the other side ends what it runs
            elif process.poll() is None:
                process.send_signal(number)

    for host, line in zip(hosts, lines, strict=True):
        options = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}", *host.options)
        processes.append(
            subprocess.Popen(
                ["ssh", *options, "--", host.target, ends_with_input(line)],
                stdin=subprocess.PIPE,
                stdout=stdout,
                env=os.environ,
                **IN_LINES,
            )
        )
    return Running(processes, [host.target for host in hosts], signal_all, error_sink=error_sink)


def ends_with_input(line: str) -> str:
    """A line for `sh` that runs another one until that ends, or until standard input is closed."""
    # ssh passes no signal on; the end of standard input is what arrives when it dies. setsid, where there is one,
    # makes a group of what the line starts, so that all of it is ended, also what outlives its leader: a shell dies of
    # TERM, and the process of JAX that it waits for does not.
    script = (
        "exec 3<&0; command -v setsid >/dev/null && group=setsid || group=; "
        f"$group sh -c {shlex.quote(line)} </dev/null 3<&- & work=$!; "
        "stop() { kill -s $1 -- ${group:+-}$work; }; "
        "{ cat <&3; stop TERM; sleep 2; stop KILL; } >/dev/null 2>&1 & watch=$!; "
        "wait $work; code=$?; turn=0; exec 2>/dev/null; "
        "while [ $turn -lt 20 ] && stop 0; do sleep 0.1 || sleep 1; turn=$((turn + 1)); done; "
        "stop KILL; kill $watch; exit $code"
    )
    return f"sh -c {shlex.quote(script)}"
