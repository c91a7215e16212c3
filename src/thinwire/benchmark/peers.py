"""Other programs beside a benchmark: run on host 0 with its share of the CPU, in turn with the strategies.

A peer is any command. It loads, prints ``{"ready": true}`` (and whatever else shall stand in the results), then for
each line of standard input, such as ``{"tokens": 1024}``, makes one pass and prints ``{"seconds": 1.23}``. It ends when
standard input does, and does nothing in between. What else it has to say goes to standard error.
"""

import contextlib
import dataclasses
import json
import math
import queue
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from thinwire.cluster.running import HostError, Running
from thinwire.errors import ThinwireError
from thinwire.strategies.parse import STRATEGIES

READY_WITHIN_S = 300.0
PATIENCE_S = 600.0
_GOODBYE_S = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Peer:
    """A program to measure beside the strategies: what it is called in the results, and its command."""

    name: str
    command: tuple[str, ...]


def parse_peers(texts: Sequence[str]) -> tuple[Peer, ...]:
    """Peers from ``NAME=COMMAND``, the command as in a shell.

    Raises:
        ThinwireError: one has no such form, names a program that is not there, or has another's name.
    """
    peers: dict[str, Peer] = {}
    for text in texts:
        name, equals, command = text.partition("=")
        if not (equals and _NAME.fullmatch(name)):
            raise ThinwireError(f"--peer {text} is not NAME=COMMAND with a name of letters, digits, '.', '_' and '-'.")
        if name in STRATEGIES or name in peers:
            taken = "a strategy" if name in STRATEGIES else "another peer"
            raise ThinwireError(f"--peer {name}=... has the name of {taken}; give it one of its own.")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise ThinwireError(f"--peer {text}: {error}; quote the command as in a shell.") from None
        if not words or shutil.which(words[0]) is None:
            raise ThinwireError(f"--peer {name}: there is no program {words[0] if words else ''!r}; give its path.")
        peers[name] = Peer(name, words)
    return tuple(peers.values())


class PeerProcess:
    """A peer that runs.

    Args:
        peer: what it is.
        running: its one process, with standard input and output as text pipes.
        patience_s: how long a pass may take.

    Attributes:
        facts: what it said when it was ready.
    """

    def __init__(self, peer: Peer, running: Running, patience_s: float = PATIENCE_S):
        self.peer, self.running, self._patience_s = peer, running, patience_s
        self.facts: dict[str, Any] = {}
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Waits until it has loaded.

        Raises:
            ThinwireError: it has ended, is not ready in time, or says something else.
        """
        wanted = '{"ready": true}'
        said, line = self._answer(wanted, within_s, "was not ready")
        if said.pop("ready", None) is not True:
            raise self._nonsense(line, wanted)
        self.facts = said

    def run(self, tokens: int) -> float:
        """Seconds of one pass, as the peer says.

        Raises:
            ThinwireError: it has ended, takes too long, or says something else.
        """
        pipe, begun = self.running.processes[0].stdin, time.monotonic()
        assert pipe is not None
        with contextlib.suppress(OSError):  # it has ended: told below
            pipe.write(json.dumps({"tokens": tokens}) + "\n")
            pipe.flush()
        wanted = '{"seconds": 1.23}'
        said, line = self._answer(wanted, self._patience_s, "gave no answer")
        seconds, passed = said.get("seconds"), time.monotonic() - begun
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
            raise self._nonsense(line, wanted)
        if not 0 < seconds <= passed:
            raise ThinwireError(
                f"peer {self.peer.name} says that a pass took {seconds:g} s and answered after {passed:.3g} s; "
                "it must time the whole pass, in seconds."
            )
        return float(seconds)

    def end(self, within_s: float = _GOODBYE_S) -> None:
        """Closes its standard input and waits until it has gone; whoever takes long is ended, as all is measured.

        Raises:
            ThinwireError: it ends with an error.
        """
        pipe = self.running.processes[0].stdin
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()
        try:
            self.running.wait(within_s)
        except HostError as error:
            raise self._obituary(error) from None
        except ThinwireError:
            pass  # it was late, and was ended

    def _listen(self) -> None:
        stdout = self.running.processes[0].stdout
        assert stdout is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in stdout:
                self._lines.put(line.strip())

    def _answer(self, wanted: str, within_s: float, failing: str) -> tuple[dict[str, Any], str]:
        deadline, ended = time.monotonic() + within_s, False
        while True:
            try:
                line = self._lines.get(timeout=0.2)
                break
            except queue.Empty:
                if ended:
                    raise self._ended(wanted) from None
                ended = self.running.processes[0].poll() is not None  # what it has said last may still come
                if time.monotonic() > deadline:
                    raise ThinwireError(
                        f"peer {self.peer.name} {failing} within {within_s:g} s; it must print {wanted} in a line of "
                        f"its own and flush it{self._last_words()}."
                    ) from None
        try:
            said = json.loads(line)
        except ValueError:
            raise self._nonsense(line, wanted) from None
        if not isinstance(said, dict):
            raise self._nonsense(line, wanted)
        if "error" in said:
            raise ThinwireError(f"peer {self.peer.name}: {said['error']}")
        return said, line

    def _nonsense(self, line: str, wanted: str) -> ThinwireError:
        shown = line if len(line) <= 80 else line[:79] + "…"
        return ThinwireError(
            f"peer {self.peer.name} printed {shown!r} where {wanted} is wanted; other words belong on standard error."
        )

    def _ended(self, wanted: str) -> ThinwireError:
        try:
            self.running.wait(_GOODBYE_S)
        except HostError as error:
            return self._obituary(error)
        return ThinwireError(
            f"peer {self.peer.name} ended without saying {wanted}; it must go on until its standard input ends."
        )

    def _obituary(self, error: HostError) -> ThinwireError:
        how = f"was killed by signal {-error.code}" if error.code < 0 else f"ended with exit code {error.code}"
        return ThinwireError(f"peer {self.peer.name} {how}{self._last_words()}.")

    def _last_words(self) -> str:
        said = " ".join(self.running.errors_of(0).split())
        return f"; the last it said: {said[-400:]}" if said else ""


@contextlib.contextmanager
def running_peers(
    peers: Sequence[Peer], start: Callable[..., Running], progress: Callable[[str], None] = lambda what: None
):
    """The peers, loaded one after another, for as long as the block runs; their processes end with it.

    Args:
        peers: what to start.
        start: ``Cluster.start`` of the hosts, the first of which they run on.
        progress: told what is waited for.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for peer in peers:
            progress(f"{peer.name} loads")
            running = start(peer.command, stdin=subprocess.PIPE, hosts=(0,))
            found.append(PeerProcess(peer, stack.enter_context(running)))
            found[-1].wait_ready()
        yield found
        for one in found:
            one.end()
