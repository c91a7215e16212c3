"""Packets between hosts that compute meanwhile: whoever sends goes on at once, and waits only for what it looks at.

While a gather of gloo's is under way XLA's CPU backend computes nothing, and gloo sends nothing before the receiver has
asked. So every host waits in every layer for the slowest one and for the wire. Here each host has one TCP connection to
each other one, with a thread that writes and one that reads: in a causal model the hosts with the first tokens run
ahead, and their codes travel while the others compute. So nothing but the packets tells a host what the others are at,
and each names the pass that it belongs to.
"""

import collections
import contextlib
import contextvars
import dataclasses
import itertools
import queue
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

LAG = 64  # packets that a host may be ahead of another one
MOST_BYTES = 1 << 30  # of a packet
_HEAD = struct.Struct("<IIQ")  # which pass and which exchange of it a packet belongs to, and its bytes
_LAST_WORDS_S = 10.0
_RESET = struct.pack("ii", 1, 0)  # linger: on, for no time

_open: "Streams | None" = None


@dataclasses.dataclass(frozen=True)
class _Program:
    """What is being traced: the streams that it uses, which pass it will be, and the numbers of its exchanges."""

    streams: "Streams"
    identity: Any
    exchanges: Iterator[int] = dataclasses.field(default_factory=itertools.count)


_traced: contextvars.ContextVar[_Program | None] = contextvars.ContextVar("traced", default=None)


class _Inbox:
    """Packets of one host that have come, in order for each exchange; whoever asks for one waits for it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._came: dict[int, collections.deque[tuple[int, bytes]]] = collections.defaultdict(collections.deque)
        self._failure: Exception | None = None

    def put(self, exchange: int, identity: int, packet: bytes) -> None:
        """Keeps a packet; waits while LAG others have not been fetched."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or sum(map(len, self._came.values())) < LAG)
            if self._failure is None:
                self._came[exchange].append((identity, packet))
                self._changed.notify_all()

    def fail(self, failure: Exception, forget: bool = False) -> None:
        """From now on nothing comes any more; what has come can still be fetched, unless it is to be forgotten."""
        with self._changed:
            self._failure = self._failure or failure
            if forget:
                self._came.clear()
            self._changed.notify_all()

    def get(self, exchange: int) -> tuple[int, bytes]:
        """The pass and the bytes of the next packet of an exchange; raises what has ended the connection."""
        with self._changed:
            self._changed.wait_for(lambda: self._came[exchange] or self._failure)
            if not self._came[exchange]:
                assert self._failure is not None
                raise self._failure
            came = self._came[exchange].popleft()
            self._changed.notify_all()
            return came


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
        self._receiving = list(receiving.values())
        self._sockets = [*sending.values(), *self._receiving]
        self._out: dict[int, queue.Queue[tuple[int, int, bytes] | None]] = {
            other: queue.Queue(LAG) for other in sending
        }
        self._in = {other: _Inbox() for other in receiving}
        self._lost: dict[int, Exception] = {}  # by host that cannot be reached any more
        self._threads = [
            *(threading.Thread(target=self._write, args=(n, sending[n]), daemon=True) for n in sending),
            *(threading.Thread(target=self._read, args=(n, receiving[n]), daemon=True) for n in receiving),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, packets: Mapping[int, bytes], exchange: int = 0, identity: int = 0) -> None:
        """Hands every host its packet and goes on at once; waits only where a host is LAG packets behind.

        Args:
            exchange: which one of the pass this is. Those of different numbers may be waited for in any order.
            identity: of the pass: a number of 32 bits that other passes do not have.

        Raises:
            ConnectionError: a host is gone.
        """
        for other, packet in packets.items():
            self._hand_on(other, (identity, exchange, packet))
            self.sent_bytes += len(packet)

    def receive(self, others: Iterable[int], size: int, exchange: int = 0, identity: int = 0) -> dict[int, bytes]:
        """The next packet of each of these hosts, of ``size`` bytes; waits until they have come.

        Raises:
            ConnectionError: a host is gone, or has sent something else or of another pass. After the latter nothing
                can be sent or received any more, here or by the others.
        """
        received = {}
        for other in others:
            try:
                of, came = self._in[other].get(exchange)
            except Exception as failure:
                raise ConnectionError(f"Host {other} is gone: {failure}") from failure
            if of != identity:
                raise self._given_up(
                    f"Host {other} makes another pass than host {self.host}: all hosts must make the same passes of "
                    "the same inputs, in the same order and one at a time."
                )
            if len(came) != size:
                raise self._given_up(f"Host {other} has sent {len(came)} bytes where {size} were expected.")
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
        self._end(ConnectionError("the connections are closed"))
        for connection in self._receiving:
            # Linux announces no room after a shutdown: whoever has filled this up would wait for ever without a reset.
            with contextlib.suppress(OSError):  # it is closed already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for connection in self._sockets:
            connection.close()

    def _given_up(self, sentence: str) -> ConnectionError:
        """Hosts that are not at the same point never meet again: better an end for all than what looks like results."""
        failure = ConnectionError(sentence)
        self._lost = dict.fromkeys(self._out, failure)
        self._end(failure, forget=True)
        for waiting in self._out.values():  # its writer has nothing left to do
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(None)
        return failure

    def _end(self, failure: Exception, forget: bool = False) -> None:
        for inbox in self._in.values():  # a reader may be waiting there for its packet to be fetched
            inbox.fail(failure, forget)
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _hand_on(self, other: int, packet: tuple[int, int, bytes]) -> None:
        while True:
            if other in self._lost:
                raise ConnectionError(f"Host {other} is gone: {self._lost[other]}") from self._lost[other]
            with contextlib.suppress(queue.Full):
                self._out[other].put(packet, timeout=1.0)
                return

    def _write(self, other: int, connection: socket.socket) -> None:
        try:
            while (packet := self._out[other].get()) is not None:
                identity, exchange, sent = packet
                connection.sendall(_HEAD.pack(identity, exchange, len(sent)) + sent)
        except OSError as error:
            self._lost.setdefault(other, error)

    def _read(self, other: int, connection: socket.socket) -> None:
        try:
            while True:
                identity, exchange, size = _HEAD.unpack(_exactly(connection, _HEAD.size))
                if size > MOST_BYTES:
                    raise ConnectionError(f"it announces a packet of {size} bytes, and {MOST_BYTES} is the most")
                self._in[other].put(exchange, identity, _exactly(connection, size))
        except Exception as error:  # whoever waits for a packet must hear of it, whatever it is
            self._in[other].fail(error)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise ConnectionError("it has closed the connection")
        left = left[count:]
    return bytes(data)


def keep_open(streams: Streams) -> None:
    """What is traced under ``streaming`` between as many devices from now on uses these."""
    global _open
    _open = streams


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
def streaming(streams: Streams | None, identity: Any = 0) -> Iterator[None]:
    """What one program, traced inside, sends goes through these streams; None: through XLA's collectives.

    Each exchange gets a number, the same on all hosts: their programs differ in what each computes, but all trace the
    same exchanges in the same order. Streams have no gradient.

    Args:
        identity: uint32 of the pass, a number or a traced one: of the program and its inputs. A pass that meets one of
            another number fails.
    """
    token = _traced.set(None if streams is None else _Program(streams, identity))
    try:
        yield
    finally:
        _traced.reset(token)


def pass_identity(program: str, inputs: Array) -> Array:
    """A number of a pass: of its program, and of inputs that all hosts have; other inputs have another one.

    By chance two share one in 4 billion pairs.
    """
    raw = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.astype(jnp.float32).view(jnp.uint32)
    word_I = raw.reshape(-1).astype(jnp.uint32)
    mixed_I = word_I ^ (jnp.arange(word_I.size, dtype=jnp.uint32) * jnp.uint32(2654435761))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # the last steps of MurmurHash3
        mixed_I = (mixed_I ^ (mixed_I >> jnp.uint32(shift))) * jnp.uint32(factor)
    mixed_I = mixed_I ^ (mixed_I >> jnp.uint32(16))
    return jnp.sum(mixed_I, dtype=jnp.uint32) ^ jnp.uint32(zlib.crc32(program.encode()))


def used() -> Streams | None:
    """The streams that what is being traced uses."""
    found = _traced.get()
    return found.streams if found else None


def next_exchange() -> tuple[int, Any]:
    """The number of the exchange that is being traced, and its pass; only where streams are used."""
    found = _traced.get()
    assert found is not None
    return next(found.exchanges), found.identity
