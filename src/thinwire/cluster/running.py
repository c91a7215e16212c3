"""The processes of one command on several hosts: watched together, ended together."""

import contextlib
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from thinwire.cluster.signals import uninterrupted
from thinwire.errors import ThinwireError

GRACE_S = 3.0  # between being asked to end and being killed
ENDED_WITHIN_S = 5.0  # after one has died all others are gone within this time
KEPT_LINES = 200  # of each host's standard error

# How processes are started that this file watches: their lines as text, in sessions of their own, as Ctrl-C is to reach
# the launcher alone, which ends them.
IN_LINES: dict[str, Any] = {
    "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8", "errors": "replace", "bufsize": 1,
    "start_new_session": True,
}  # fmt: skip

LineSink = Callable[[int, str], None]  # host, line without its end


class HostError(ThinwireError):
    """A host's process has ended with an error; the others were ended for that."""

    def __init__(self, sentence: str, host: int, code: int):
        super().__init__(sentence)
        self.host, self.code = host, code


class Running:
    """Processes that belong together, one a host; a context manager that leaves none behind.

    Attributes:
        processes: in the order of the hosts, with standard input and output as text in lines where they are pipes.
            Whoever started them must read the output: a process with a full pipe (1 MB) waits.
        names: of the hosts, for messages.
    """

    def __init__(
        self,
        processes: Sequence[subprocess.Popen],
        names: Sequence[str],
        signal_all: Callable[[int], None],
        clear: Callable[[], None] = lambda: None,
        error_sink: LineSink | None = None,
    ):
        """Watch processes that have just been started.

        Args:
            processes: one a host; standard error is collected where it is a pipe.
            names: of the hosts.
            signal_all: sends a signal to them and all that they have started.
            clear: called once when all have ended.
            error_sink: called with every line of standard error.
        """
        self.processes, self.names = tuple(processes), tuple(names)
        self._signal_all, self._clear, self._error_sink = signal_all, clear, error_sink
        self._begin = time.monotonic()
        self._codes: dict[int, int] = {}
        self._whens: dict[int, float] = {}  # when each of these ended
        self._ends: queue.SimpleQueue[tuple[int, int, float]] = queue.SimpleQueue()
        self._errors: list[deque[str]] = [deque(maxlen=KEPT_LINES) for _ in self.processes]
        self._ended = False
        self._threads = []
        for host, process in enumerate(self.processes):
            self._thread(self._watch, host, process)
            if process.stderr is not None:
                self._thread(self._listen, host, process.stderr)

    def wait(self, timeout_s: float | int | None = None) -> tuple[int, ...]:
        """Wait until all have ended well; their exit codes.

        Raises:
            HostError: as soon as one ends with another code than 0, after the others were ended.
            ThinwireError: if some still run after `timeout_s` seconds, after they were ended.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while len(self._codes) < len(self.processes):
            try:
                # A wait without an end cannot be interrupted by a signal on every system.
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                host, code, when = self._ends.get(timeout=max(0.0, left))
            except queue.Empty:
                if deadline is None or time.monotonic() < deadline:
                    continue
                late = ", ".join(name for host, name in enumerate(self.names) if host not in self._codes)
                self.end()
                raise ThinwireError(
                    f"{late} did not end within {timeout_s:g} s, and all were ended: allow more time."
                ) from None
            self._codes[host], self._whens[host] = code, when
            if code != 0:
                alone, suspects = len(self._codes) == len(self.processes), self._suspects(host)
                self.end()
                raise HostError(self._obituary(host, code, alone, suspects), host, code)
        return tuple(self._codes[host] for host in range(len(self.processes)))

    def errors_of(self, host: int) -> str:
        """The last lines that a host has written to standard error."""
        return "\n".join(self._errors[host])

    def end(self) -> None:
        """End all that still run, within ENDED_WITHIN_S seconds: asked first, killed GRACE_S seconds later."""
        if self._ended:
            return
        self._ended = True
        with uninterrupted():
            if any(process.poll() is None for process in self.processes):
                self._signal_all(signal.SIGTERM)
                deadline = time.monotonic() + GRACE_S
                for process in self.processes:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
            self._signal_all(signal.SIGKILL)  # and whatever those have started that ended by themselves
            for process in self.processes:
                process.wait()
            for thread in self._threads:
                thread.join(1.0)
            self._clear()

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        for process in self.processes:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what is still in the buffer has no reader
                        pipe.close()

    def _thread(self, work: Callable[..., None], *args) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _watch(self, host: int, process: subprocess.Popen) -> None:
        # A thread for each: only so it is known which one ended first, however late somebody asks.
        code = process.wait()
        self._ends.put((host, code, time.monotonic()))

    def _listen(self, host: int, stream: Iterable[str]) -> None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in stream:
                self._errors[host].append(line.rstrip("\n"))
                if self._error_sink is not None:
                    self._error_sink(host, line.rstrip("\n"))

    def _suspects(self, failed: int) -> str:
        """What the others did that may have been the reason: ended early without an error, or stood still."""
        ended = [
            f"{self.names[host]} had ended by itself after {self._whens[host] - self._begin:.1f} s"
            for host in self._codes
            if host != failed
        ]
        stopped = [
            f"{name} was stopped (SIGSTOP)"
            for name, process in zip(self.names, self.processes, strict=True)
            if process.poll() is None and _state(process.pid) == "T"
        ]
        return "".join(f"; {one}" for one in (*ended, *stopped))

    def _obituary(self, host: int, code: int, alone: bool, suspects: str) -> str:
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = " ".join(self.errors_of(host).split())
        last = f"; the last it said: {said[-400:]}" if said and self._error_sink is None else ""
        others = "" if alone else "; the others were ended"
        return f"Host {self.names[host]} {how} after {self._whens[host] - self._begin:.1f} s{suspects}{others}{last}"


def shell_code(code: int) -> int:
    """A process's exit code as a shell tells it: 128 + N for signal N."""
    return 128 - code if code < 0 else code


def _state(process: int) -> str:
    """The letter by which Linux tells what a process does; nothing elsewhere."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
