"""Packets between hosts that compute meanwhile: whoever sends goes on at once, and waits only for what it looks at.

While a gather of gloo's is under way XLA's CPU backend computes nothing, and gloo sends nothing before the receiver has
asked. So every host waits in every layer for the slowest one and for the wire. Here each host has one TCP connection to
each other one, with a thread that writes and one that reads: in a causal model the hosts with the first tokens run
ahead, and their codes travel while the others compute.
"""

import collections
import contextlib
import contextvars
import hmac
import itertools
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Set

import numpy as np

from thinwire.errors import ThinwireError

LAG = 64  # packets that a host may be ahead of another one
KEY_BYTES = 32
MOST_BYTES = 1 << 30  # of a packet
_HEAD = struct.Struct("<IQ")  # which exchange of its program a packet belongs to, and its bytes
_GREETING = struct.Struct(f"<{KEY_BYTES}sI")  # the key, and which host greets
_GREETING_S = _LAST_WORDS_S = 10.0

_open: "Streams | None" = None
# The streams that what is being traced uses, and the number of its next exchange.
_used: contextvars.ContextVar["tuple[Streams, Iterator[int]] | None"] = contextvars.ContextVar("used", default=None)


class _Inbox:
    """Packets of one host that have come, in order for each exchange; whoever asks for one waits for it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._came: dict[int, collections.deque[bytes]] = collections.defaultdict(collections.deque)
        self._failure: Exception | None = None

    def put(self, exchange: int, packet: bytes) -> None:
        """Keeps a packet; waits while LAG others have not been fetched."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or sum(map(len, self._came.values())) < LAG)
            self._came[exchange].append(packet)
            self._changed.notify_all()

    def fail(self, failure: Exception) -> None:
        """From now on nothing comes any more."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def get(self, exchange: int) -> bytes:
        """The next packet of an exchange; raises what has ended the connection."""
        with self._changed:
            self._changed.wait_for(lambda: self._came[exchange] or self._failure)
            if not self._came[exchange]:
                assert self._failure is not None
                raise self._failure
            packet = self._came[exchange].popleft()
            self._changed.notify_all()
            return packet


class Streams:
    """One host's connections to all others.

    Args:
        host: which one this is.
        sending, receiving: by other host, a connection for each direction.

    Attributes:
        sent_bytes: of packets handed to other hosts so far, as the ledger counts them.
    """

    def __init__(self, host: int, sending: Mapping[int, socket.socket], receiving: Mapping[int, socket.socket]):
        self.host, self.hosts, self.sent_bytes = host, len(sending) + 1, 0
        self._sockets = [*sending.values(), *receiving.values()]
        self._out: dict[int, queue.Queue[tuple[int, bytes] | None]] = {other: queue.Queue(LAG) for other in sending}
        self._in = {other: _Inbox() for other in receiving}
        self._lost: dict[int, OSError] = {}  # by host that cannot be reached any more
        self._threads = [
            *(threading.Thread(target=self._write, args=(n, sending[n]), daemon=True) for n in sending),
            *(threading.Thread(target=self._read, args=(n, receiving[n]), daemon=True) for n in receiving),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, packets: Mapping[int, bytes], exchange: int = 0) -> None:
        """Hands every host its packet and goes on at once; waits only where a host is LAG packets behind.

        Args:
            exchange: which one of the program this is. Those of different numbers may be waited for in any order.

        Raises:
            ConnectionError: a host is gone.
        """
        for other, packet in packets.items():
            self._hand_on(other, (exchange, packet))
            self.sent_bytes += len(packet)

    def receive(self, others: Iterable[int], size: int, exchange: int = 0) -> dict[int, bytes]:
        """The next packet of each of these hosts, of ``size`` bytes; waits until they have come.

        Raises:
            ConnectionError: a host is gone, or has sent something else.
        """
        received = {}
        for other in others:
            try:
                came = self._in[other].get(exchange)
            except Exception as failure:
                raise ConnectionError(f"Host {other} is gone: {failure}") from failure
            if len(came) != size:
                raise ConnectionError(f"Host {other} has sent {len(came)} bytes where {size} were expected.")
            received[other] = came
        return received

    def close(self) -> None:
        """Sends what is left to those that are still there, and ends the connections."""
        deadline = time.monotonic() + _LAST_WORDS_S
        for other, waiting in self._out.items():
            while other not in self._lost and time.monotonic() < deadline:
                with contextlib.suppress(queue.Full):
                    waiting.put(None, timeout=0.1)
                    break
        for thread in self._threads[: len(self._out)]:
            thread.join(max(0.0, deadline - time.monotonic()))
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _hand_on(self, other: int, packet: tuple[int, bytes]) -> None:
        while True:
            if other in self._lost:
                raise ConnectionError(f"Host {other} is gone: {self._lost[other]}") from self._lost[other]
            with contextlib.suppress(queue.Full):
                self._out[other].put(packet, timeout=1.0)
                return

    def _write(self, other: int, connection: socket.socket) -> None:
        try:
            while (packet := self._out[other].get()) is not None:
                exchange, sent = packet
                connection.sendall(_HEAD.pack(exchange, len(sent)) + sent)
        except OSError as error:
            self._lost[other] = error

    def _read(self, other: int, connection: socket.socket) -> None:
        try:
            while True:
                exchange, size = _HEAD.unpack(_exactly(connection, _HEAD.size))
                if size > MOST_BYTES:
                    raise ConnectionError(f"it announces a packet of {size} bytes, and {MOST_BYTES} is the most")
                self._in[other].put(exchange, _exactly(connection, size))
        except Exception as error:  # whoever waits for a packet must hear of it, whatever it is
            self._in[other].fail(error)


def connect(
    host: int, addresses: Mapping[int, tuple[str, int]], listener: socket.socket, key: bytes, timeout_s: float | int
) -> Streams:
    """Connections from this host to all others, and from them.

    Args:
        addresses: where each host listens.
        listener: where this one does; closed afterwards.
        key: that whoever connects has to know.
        timeout_s: until all must have connected.

    Raises:
        ThinwireError: a host cannot be reached, or has not come in time.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as opened:
        opened.callback(listener.close)
        sending: dict[int, socket.socket] = {}
        for other in addresses.keys() - {host}:
            sending[other] = opened.enter_context(_greeting(host, other, addresses[other], key, deadline))
        receiving: dict[int, socket.socket] = {}
        while awaited := addresses.keys() - {host} - receiving.keys():
            other, connection = _greeted(listener, awaited, key, deadline)
            receiving[other] = opened.enter_context(connection)
        for connection in (*sending.values(), *receiving.values()):
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.pop_all()
        listener.close()
    return Streams(host, sending, receiving)


def _greeting(host: int, other: int, address: tuple[str, int], key: bytes, deadline: float) -> socket.socket:
    """A connection to another host, which has been told who connects."""
    try:
        connection = socket.create_connection(address, max(0.1, deadline - time.monotonic()))
        connection.sendall(_GREETING.pack(key, host))
    except OSError as error:
        raise ThinwireError(
            f"Host {host} cannot reach host {other} at {address[0]}:{address[1]} ({error}); open that host's ports to "
            "this one, or set THINWIRE_EXCHANGE=gloo."
        ) from None
    return connection


def _greeted(listener: socket.socket, awaited: Set[int], key: bytes, deadline: float) -> tuple[int, socket.socket]:
    """The next of the awaited hosts that connects; whoever does not know the key is sent away."""
    while True:
        listener.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            missing = ", ".join(map(str, sorted(awaited)))
            raise ThinwireError(
                f"No connection came from host {missing}; open this host's ports to it, or set THINWIRE_EXCHANGE=gloo."
            ) from None
        with contextlib.suppress(OSError):
            greeting = _exactly(connection, _GREETING.size, min(deadline, time.monotonic() + _GREETING_S))
            given, other = _GREETING.unpack(greeting)
            if hmac.compare_digest(given, key) and other in awaited:
                return other, connection
        connection.close()


def _exactly(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        if deadline is not None:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
        count = connection.recv_into(left)
        if not count:
            raise ConnectionError("it has closed the connection")
        left = left[count:]
    return bytes(data)


def open_between_hosts(own_address: str, timeout_s: float | int) -> None:
    """Connects the processes that JAX has joined; what is traced under ``streaming`` from now on uses it.

    Args:
        own_address: at which the other hosts can reach this one; it listens there and nowhere else.
        timeout_s: until all must have connected.

    Raises:
        ThinwireError: a host cannot be reached.
    """
    import jax
    from jax.experimental import multihost_utils

    global _open
    family = socket.AF_INET6 if ":" in own_address else socket.AF_INET
    listener = socket.create_server((own_address, 0), family=family)
    here = f"{own_address} {listener.getsockname()[1]}".encode().ljust(64)
    everywhere = multihost_utils.process_allgather(np.frombuffer(here, np.uint8))
    key = np.frombuffer(secrets.token_bytes(KEY_BYTES), np.uint8)
    key = np.asarray(multihost_utils.broadcast_one_to_all(key)).astype(np.uint8).tobytes()
    texts = [np.asarray(one).astype(np.uint8).tobytes().decode().split() for one in everywhere]
    addresses = {n: (address, int(port)) for n, (address, port) in enumerate(texts)}
    _open = connect(jax.process_index(), addresses, listener, key, timeout_s)


def close_between_hosts() -> None:
    """Ends the connections, if there are any."""
    global _open
    if _open is not None:
        _open.close()
        _open = None


def between(devices: int) -> Streams | None:
    """The open streams, if they join exactly so many devices."""
    return _open if _open is not None and _open.hosts == devices else None


@contextlib.contextmanager
def streaming(streams: Streams | None) -> Iterator[None]:
    """What one program, traced inside, sends goes through these streams; None: through XLA's collectives.

    Each exchange gets a number, the same on all hosts, since all trace the same program. Streams have no gradient.
    """
    token = _used.set(None if streams is None else (streams, itertools.count()))
    try:
        yield
    finally:
        _used.reset(token)


def used() -> Streams | None:
    """The streams that what is being traced uses."""
    found = _used.get()
    return found[0] if found else None


def next_exchange() -> int:
    """The number of the exchange that is being traced; only where streams are used."""
    found = _used.get()
    assert found is not None
    return next(found[1])
