"""Packets between hosts that compute meanwhile: whoever sends goes on at once, and waits only for what it looks at.

While a gather of gloo's is under way XLA's CPU backend computes nothing, and gloo sends nothing before the receiver has
asked. So every host waits in every layer for the slowest one and for the wire. Here each host has one TCP connection to
each other one, with a thread that writes and one that reads: in a causal model the hosts with the first tokens run
ahead, and their codes travel while the others compute.
"""

import contextlib
import contextvars
import hmac
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Set

import numpy as np
from jaxtyping import Bool, Shaped

from thinwire.errors import ThinwireError

LAG = 64  # packets that a host may be ahead of another one
KEY_BYTES = 32
_HEAD = struct.Struct("<IQ")  # the number of a packet and its bytes
_GREETING = struct.Struct(f"<{KEY_BYTES}sI")  # the key, and which host greets
_GREETING_S = 10.0

_open: "Streams | None" = None
_used: contextvars.ContextVar["Streams | None"] = contextvars.ContextVar("used", default=None)


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
        self._out: dict[int, queue.Queue[bytes | None]] = {other: queue.Queue(LAG) for other in sending}
        self._in: dict[int, queue.Queue[bytes | OSError]] = {other: queue.Queue(LAG) for other in receiving}
        self._lost: dict[int, OSError] = {}  # by host that cannot be reached any more
        self._threads = [
            *(threading.Thread(target=self._write, args=(n, sending[n]), daemon=True) for n in sending),
            *(threading.Thread(target=self._read, args=(n, receiving[n]), daemon=True) for n in receiving),
        ]
        for thread in self._threads:
            thread.start()

    def exchange(
        self, packet: Shaped[np.ndarray, "*X"], looks_NN: Bool[np.ndarray, "N N"]
    ) -> Shaped[np.ndarray, "N *X"]:
        """Hands the packet to the hosts that look at it, and waits for those that this one looks at.

        Args:
            packet: of the same size on every host.
            looks_NN: whether the first host looks at the second one's packet; the same on every host.

        Returns:
            The hosts' packets in order; zeros of those that this one does not look at.

        Raises:
            ConnectionError: a host is gone, or sends something else.
        """
        sent = np.ascontiguousarray(packet).tobytes()
        for other, waiting in self._out.items():
            if looks_NN[other, self.host]:
                self._hand_on(other, waiting, sent)
                self.sent_bytes += len(sent)
        received = np.zeros((self.hosts, *packet.shape), packet.dtype)
        received[self.host] = packet
        for other, arrived in self._in.items():
            if looks_NN[self.host, other]:
                came = arrived.get()
                if isinstance(came, OSError):
                    arrived.put(came)  # for whoever asks again
                    raise ConnectionError(f"Host {other} is gone: {came}") from came
                if len(came) != len(sent):
                    raise ConnectionError(f"Host {other} has sent {len(came)} bytes where {len(sent)} were expected.")
                received[other] = np.frombuffer(came, packet.dtype).reshape(packet.shape)
        return received

    def close(self) -> None:
        """Sends what is left, and ends the connections."""
        for waiting in self._out.values():
            waiting.put(None)
        for thread in self._threads[: len(self._out)]:
            thread.join(_GREETING_S)
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _hand_on(self, other: int, waiting: "queue.Queue[bytes | None]", sent: bytes) -> None:
        while True:
            if other in self._lost:
                raise ConnectionError(f"Host {other} is gone: {self._lost[other]}") from self._lost[other]
            with contextlib.suppress(queue.Full):
                waiting.put(sent, timeout=1.0)
                return

    def _write(self, other: int, connection: socket.socket) -> None:
        number = 0
        try:
            while (packet := self._out[other].get()) is not None:
                connection.sendall(_HEAD.pack(number, len(packet)) + packet)
                number = (number + 1) % 2**32
        except OSError as error:
            self._lost[other] = error

    def _read(self, other: int, connection: socket.socket) -> None:
        expected = 0
        try:
            while True:
                number, size = _HEAD.unpack(_exactly(connection, _HEAD.size))
                if number != expected:
                    raise ConnectionError(f"packet {number} came where {expected} was expected")
                expected = (number + 1) % 2**32
                self._in[other].put(_exactly(connection, size))
        except OSError as error:
            self._in[other].put(error)


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
        connection.settimeout(_GREETING_S)
        with contextlib.suppress(OSError):
            given, other = _GREETING.unpack(_exactly(connection, _GREETING.size))
            if hmac.compare_digest(given, key) and other in awaited:
                return other, connection
        connection.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    left = memoryview(data)
    while left:
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
    """Gathers traced inside go through these streams; None: through XLA's collectives. Streams have no gradient."""
    token = _used.set(streams)
    try:
        yield
    finally:
        _used.reset(token)


def used() -> Streams | None:
    """The streams that what is being traced uses."""
    return _used.get()
