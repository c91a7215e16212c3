"""Orders to the workers of a benchmark, and their answers: all at once, with a host's death or silence told by name."""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from thinwire.errors import ThinwireError


class Fleet:
    """The workers, one a host.

    Args:
        processes: with standard input and output as text pipes.
        said: the last lines that each has written to standard error.
        patience_s: how long an answer may take.
    """

    def __init__(self, processes: Sequence[subprocess.Popen], said: Sequence[Iterable[str]], patience_s: float = 600.0):
        self.processes, self.said, self.patience_s = tuple(processes), said, patience_s
        self._lines = [self._listen(process) for process in self.processes]

    @staticmethod
    def _listen(process: subprocess.Popen) -> "queue.Queue[str | None]":
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        return lines

    def everybody(self, do: str, **order: Any) -> list[dict[str, Any]]:
        """What each host answers to the same order.

        Raises:
            ThinwireError: a host refuses, has ended, or is silent for too long.
        """
        return self.ask(range(len(self.processes)), do, **order)

    def one(self, host: int, do: str, **order: Any) -> dict[str, Any]:
        """What one host answers; the others stay idle."""
        return self.ask([host], do, **order)[0]

    def ask(self, hosts: Sequence[int] | range, do: str, **order: Any) -> list[dict[str, Any]]:
        """What some hosts answer to the same order."""
        line = json.dumps({"do": do, **order}) + "\n"
        for host in hosts:
            pipe = self.processes[host].stdin
            assert pipe is not None
            try:
                pipe.write(line)
                pipe.flush()
            except OSError:
                raise ThinwireError(self._ended(host, do)) from None
        deadline = time.monotonic() + self.patience_s
        return [self._answer(host, do, deadline, hosts) for host in hosts]

    def end(self) -> None:
        """Lets the workers say goodbye to each other."""
        for process in self.processes:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()

    def _answer(self, host: int, do: str, deadline: float, hosts: Sequence[int] | range) -> dict[str, Any]:
        while True:
            try:
                line = self._lines[host].get(timeout=0.2)
            except queue.Empty:
                # A dead host keeps the others waiting in a collective: say which one it was, at once.
                dead = next((h for h in hosts if self.processes[h].poll() is not None), None)
                if dead is not None:
                    raise ThinwireError(self._ended(dead, do)) from None
                if time.monotonic() > deadline:
                    raise ThinwireError(
                        f"host {host} gave no answer to {do!r} within {self.patience_s:.0f} s; fewer tokens or hosts, "
                        "or a faster link, take less."
                    ) from None
                continue
            if line is None:
                raise ThinwireError(self._ended(host, do))
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # somebody else's line
            if "error" in answer:
                raise ThinwireError(f"host {host}: {answer['error']}")
            return answer

    def _ended(self, host: int, do: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.processes[host].wait(timeout=5)
        code = self.processes[host].poll()
        words = "\n".join(self.said[host]) or "nothing"
        return f"host {host} ended during {do!r} with exit code {code}; its last words:\n{words}"
