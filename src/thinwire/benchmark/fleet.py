"""Orders to the workers of a benchmark, and their answers: all at once, with a host's death or silence told by name."""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from thinwire.cluster.running import ENDED_WITHIN_S, Running
from thinwire.errors import ThinwireError

BEGUN = "begun"  # the key of an answer that another one follows: the pass has begun


class Fleet:
    """The workers, one a host.

    Args:
        running: their processes, with standard input and output as text pipes.
        patience_s: how long an answer may take.
    """

    def __init__(self, running: Running, patience_s: float = 600.0):
        self.running, self.patience_s = running, patience_s
        self._lines = [self._listen(process) for process in running.processes]

    @staticmethod
    def _listen(process: subprocess.Popen) -> "queue.Queue[str]":
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            with contextlib.suppress(ValueError):  # closed meanwhile
                for line in process.stdout:
                    lines.put(line)

        threading.Thread(target=read, daemon=True).start()
        return lines

    def everybody(self, do: str, **order: Any) -> list[dict[str, Any]]:
        """What each host answers to the same order.

        Raises:
            ThinwireError: a host refuses, has ended, or is silent for too long.
        """
        return self.ask(range(len(self.running.processes)), do, **order)

    def ask(
        self, hosts: Sequence[int], do: str, begun: Callable[[], None] | None = None, **order: Any
    ) -> list[dict[str, Any]]:
        """What some hosts answer to the same order; the others stay idle.

        Args:
            begun: called when a host tells, which it is asked to then, that what it does has begun.

        Raises:
            ThinwireError: as of ``everybody``.
        """
        line = json.dumps({"do": do, **order, **({"tell": True} if begun else {})}) + "\n"
        for host in hosts:
            pipe = self.running.processes[host].stdin
            assert pipe is not None
            with contextlib.suppress(OSError):  # it has ended: told below
                pipe.write(line)
                pipe.flush()
        deadline = time.monotonic() + self.patience_s
        return [self._answer(host, do, deadline, begun) for host in hosts]

    def end(self) -> None:
        """Lets the workers say goodbye to each other."""
        for process in self.running.processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _answer(self, host: int, do: str, deadline: float, begun: Callable[[], None] | None) -> dict[str, Any]:
        while True:
            try:
                line = self._lines[host].get(timeout=0.2)
            except queue.Empty:
                # A dead host keeps the others waiting in a collective: `wait` says at once which one it was.
                if any(process.poll() is not None for process in self.running.processes):
                    self.running.wait(ENDED_WITHIN_S)
                if time.monotonic() > deadline:
                    raise ThinwireError(
                        f"host {host} gave no answer to {do!r} within {self.patience_s:g} s; fewer tokens or hosts, "
                        "or a faster link, take less."
                    ) from None
                continue
            with contextlib.suppress(ValueError):  # a library's line
                answer = json.loads(line)
                if begun and BEGUN in answer:
                    begun()
                    continue
                if "error" in answer:
                    raise ThinwireError(f"host {host}: {answer['error']}")
                return answer
