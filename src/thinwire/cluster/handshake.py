"""Before anything is computed all hosts show each other what they run; whoever differs is named and all are refused.

One line of JSON from every host to host 0, one line back to each. Nothing is executed that came over the wire.
"""

import contextlib
import json
import platform
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from thinwire.errors import ThinwireError

MOST_BYTES = 64 * 1024  # of a line
ANSWER_GRACE_S = 5.0  # host 0 gives up first, so that its answer says who is missing
RETRY_S = 0.1

Facts = Mapping[str, Any]


def own_facts() -> dict[str, str]:
    """The versions that hosts must have in common."""
    versions = {name: metadata.version(name) for name in ("thinwire", "jax", "jaxlib")}
    return {**versions, "python": ".".join(platform.python_version_tuple()[:2])}


def agree(address: str, port: int, hosts: int, host: int, facts: Facts, timeout_s: float | int) -> None:
    """Return when all hosts have come and all their facts are equal.

    Args:
        address: of host 0, which listens there; nowhere else.
        port: a free TCP port on it; free again afterwards.
        hosts: how many there are.
        host: which one this is; 0 collects and answers.
        facts: names and JSON values, the same names on every host.
        timeout_s: seconds until all must have come.

    Raises:
        ThinwireError: on every host that came, naming the hosts that did not or that differ.
    """
    facts = json.loads(json.dumps(dict(facts)))  # as the others will see them: tuples are lists
    if host == 0:
        _collect(address, port, hosts, facts, timeout_s)
    else:
        _show(address, port, host, facts, timeout_s)


def differences(facts: Mapping[int, Facts]) -> str | None:
    """A sentence that names the hosts whose facts are not host 0's, None if there are none."""
    found = []
    for host in sorted(facts):
        for name in [*facts[0], *(name for name in facts[host] if name not in facts[0])]:
            mine, theirs = (json.dumps(facts[h].get(name))[:100] for h in (0, host))
            if facts[0].get(name) != facts[host].get(name):
                found.append(f"host {host} has {name} {theirs} and host 0 has {mine}")
    if not found:
        return None
    more = f", and {len(found) - 4} more differences" if len(found) > 4 else ""
    return f"The hosts differ: {'; '.join(found[:4])}{more}. Give all the same versions, model and options."


def _collect(address: str, port: int, hosts: int, facts: Facts, timeout_s: float | int) -> None:
    deadline = time.monotonic() + timeout_s
    came: dict[int, Facts] = {0: facts}
    waiting: dict[int, socket.socket] = {}
    lines: queue.Queue[tuple[socket.socket, bytes]] = queue.Queue()
    with _connections(address, port, lines, deadline):
        while len(came) < hosts and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                connection, line = lines.get(timeout=left)
                host, theirs = _read(line)
                if host is None or not 0 < host < hosts or host in waiting:
                    connection.close()  # a stranger, or a host that is there already
                    continue
                came[host], waiting[host] = theirs, connection
        missing = [host for host in range(hosts) if host not in came]
        verdict = _missing(missing, timeout_s) if missing else differences(came)
        answer = json.dumps({"refused": verdict}).encode() + b"\n"
        for connection in waiting.values():
            with contextlib.suppress(OSError):  # it has gone; the launcher sees that
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(1)
                connection.recv(1)  # the other side closes first, which leaves the port free
    if verdict:
        raise ThinwireError(verdict)


def _missing(hosts: list[int], timeout_s: float | int) -> str:
    which = f"Host {hosts[0]} has" if len(hosts) == 1 else f"Hosts {', '.join(map(str, hosts))} have"
    return f"{which} not come within {timeout_s:g} s: look whether the program runs there, or allow more time."


def _listen(address: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family)  # with SO_REUSEADDR
    except OSError as error:
        raise ThinwireError(
            f"Host 0 cannot listen at {address}:{port} ({error.strerror}): the port may be in use, or the address "
            "another machine's; choose another with --port, or mend the address."
        ) from None


@contextlib.contextmanager
def _connections(address: str, port: int, lines: queue.Queue, deadline: float) -> Iterator[None]:
    """Everybody who comes is listened to, each in a thread of its own; at the end all connections are closed."""
    accepted: list[socket.socket] = []
    done = threading.Event()

    def accept() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                accepted.append(connection)
                threading.Thread(target=_receive, args=(connection, lines, deadline), daemon=True).start()

    with _listen(address, port) as listener:
        listener.settimeout(RETRY_S)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()  # closing alone would leave it listening for as long as the thread waits in accept()
            thread.join()
            for connection in accepted:
                with contextlib.suppress(OSError):  # closed already, by one side or the other
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def _receive(connection: socket.socket, lines: queue.Queue, deadline: float) -> None:
    try:
        lines.put((connection, _line(connection, deadline)))
    except OSError:
        connection.close()


def _line(connection: socket.socket, deadline: float) -> bytes:
    """One line, or what came before the end, the limit of its size or the deadline."""
    data = b""
    while not data.endswith(b"\n") and len(data) <= MOST_BYTES:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        part = connection.recv(4096)
        if not part:
            break
        data += part
    return data


def _read(line: bytes) -> tuple[int | None, Facts]:
    """Which host wrote a line, and its facts; no host if the line is none of ours."""
    try:
        document = json.loads(line)
        host, facts = document["host"], document["facts"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, {}
    good = type(host) is int and isinstance(facts, dict) and len(line) <= MOST_BYTES
    return (host, facts) if good else (None, {})


def _show(address: str, port: int, host: int, facts: Facts, timeout_s: float | int) -> None:
    deadline = time.monotonic() + timeout_s
    message = json.dumps({"host": host, "facts": facts}).encode() + b"\n"
    if len(message) > MOST_BYTES:
        raise ThinwireError(f"The facts of host {host} take {len(message)} bytes; send hashes of what is so large.")
    while True:
        try:
            with socket.create_connection(
                (address, port), timeout=max(0.01, deadline - time.monotonic())
            ) as connection:
                connection.sendall(message)
                answer = json.loads(_line(connection, deadline + ANSWER_GRACE_S))
            break
        except (OSError, ValueError) as error:
            if time.monotonic() + RETRY_S > deadline:
                raise ThinwireError(
                    f"Host {host} got no answer from host 0 at {address}:{port} within {timeout_s:g} s ({error}): look "
                    "whether the program runs there and the port is open."
                ) from None
            time.sleep(RETRY_S)
    if answer["refused"]:
        raise ThinwireError(answer["refused"])
