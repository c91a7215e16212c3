"""Packets between hosts that compute meanwhile: whoever sends goes on at once, and waits only for what it looks at.

While a gather of gloo's is under way XLA's CPU backend computes nothing, and gloo sends nothing before the receiver has
asked. So every host waits in every layer for the slowest one and for the wire. Here each host has two connections with
each other one (``connection.py``): in a causal model the hosts with the first tokens run ahead, and their codes
travel while the others compute. So nothing but the packets tells a host what the others are at, and each names the pass
that it belongs to.
"""

import contextlib
import contextvars
import dataclasses
import itertools
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from thinwire.wire.connection import Bytes, Incoming, Outgoing

_LAST_WORDS_S = 10.0

_open: "Streams | None" = None


@dataclasses.dataclass(frozen=True)
class _Program:
    """What is being traced: the streams that it uses, which pass it will be, and the numbers of its exchanges."""

    streams: "Streams"
    identity: Any
    exchanges: Iterator[int] = dataclasses.field(default_factory=itertools.count)


_traced: contextvars.ContextVar[_Program | None] = contextvars.ContextVar("traced", default=None)


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
        self._out = {other: Outgoing(connection) for other, connection in sending.items()}
        self._in = {other: Incoming(connection) for other, connection in receiving.items()}

    def send(self, packets: Mapping[int, Bytes], exchange: int = 0, identity: int = 0) -> None:
        """Hands every host its packet and goes on at once; waits only where a host is LAG packets behind.

        Args:
            exchange: which one of the pass this is. Those of different numbers may be waited for in any order.
            identity: of the pass: a number of 32 bits that other passes do not have.

        Raises:
            ConnectionError: a host is gone.
        """
        for other, packet in packets.items():
            try:
                self._out[other].put(exchange, identity, packet)
            except Exception as failure:
                raise ConnectionError(f"Host {other} is gone: {failure}") from failure
            self.sent_bytes += len(packet)

    def receive(self, others: Iterable[int], size: int, exchange: int = 0, identity: int = 0) -> dict[int, Bytes]:
        """The next packet of each of these hosts, of ``size`` bytes; waits until they have come.

        Raises:
            ConnectionError: a host is gone, or has sent something else or of another pass. After the latter nothing
                can be sent or received any more, here or by the others.
        """
        received = {}
        for other in others:
            try:
                of, came = self._in[other].get(exchange, size)
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
        for outgoing in self._out.values():
            outgoing.finish(max(0.0, deadline - time.monotonic()))
        self._end(ConnectionError("the connections are closed"))
        for incoming in self._in.values():
            incoming.close()
        for connection in self._sockets:
            connection.close()

    def _given_up(self, sentence: str) -> ConnectionError:
        """Hosts that are not at the same point never meet again: better an end for all than what looks like results."""
        failure = ConnectionError(sentence)
        self._end(failure, forget=True)
        return failure

    def _end(self, failure: Exception, forget: bool = False) -> None:
        for outgoing in self._out.values():
            outgoing.fail(failure)
        for incoming in self._in.values():  # its reader may be waiting there for its packet to be fetched
            incoming.fail(failure, forget)
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


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
