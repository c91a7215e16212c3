"""Packets between hosts within a compiled program: sent as soon as they can be, waited for where they are needed."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from thinwire.wire.callback import host_call
from thinwire.wire.connection import Bytes
from thinwire.wire.streams import Streams, next_exchange

_HAS_SENT = np.int32(1)


class HostExchange:
    """An exchange in two halves, with work between them; in one, where there is none.

    XLA computes in any order what does not depend on each other, and its CPU backend drops barriers before it chooses
    one. So what comes between the two is made to depend on the first, and the second on that.

    Args:
        own: this host's packet, or its packets.
        identity: of the pass (``streams.streaming``).
        send: is given both, and hands ``own`` over.
        receive: is given both, too, and returns an array ``like`` this.
    """

    def __init__(
        self,
        own: Array,
        identity: Array | int,
        send: Callable[[np.ndarray, int], None],
        receive: Callable[[np.ndarray, int], np.ndarray],
        like: jax.ShapeDtypeStruct,
    ):
        self._given = own, jnp.uint32(identity)
        self._send, self._receive, self._like = send, receive, like
        self._sent: Array | None = None

    def meanwhile(self, tree: Any) -> Any:
        """The arrays of the tree; what is computed from these comes after the sending."""
        if self._sent is None:
            self._sent = host_call(self._first, jax.ShapeDtypeStruct((), np.int32), *self._given)
        return jax.tree.map(lambda x: jnp.where(self._sent == _HAS_SENT, x, jnp.zeros_like(x)), tree)

    def wait(self, after: Any = ()) -> Array:
        """What has come; the arrays of ``after`` are computed before it is waited for.

        A host whose packet is the same whatever it computes must name some: it might wait for the last layer first.
        """
        corners = [x[(0,) * x.ndim] for x in jax.tree.leaves(after) if x.size]
        if self._sent is None:  # one call is better than two
            return host_call(self._both, self._like, *self._given, *corners)
        return host_call(self._second, self._like, *self._given, self._sent, *corners)

    def _first(self, own: np.ndarray, identity: np.ndarray) -> np.int32:
        self._send(own, int(identity))
        return _HAS_SENT

    def _second(self, own: np.ndarray, identity: np.ndarray, *_: np.ndarray) -> np.ndarray:
        return self._receive(own, int(identity))

    def _both(self, own: np.ndarray, identity: np.ndarray, *_: np.ndarray) -> np.ndarray:
        self._first(own, identity)
        return self._second(own, identity)


def all_gather(streams: Streams, packet: Array, looks_NN: Bool[np.ndarray, "N N"]) -> HostExchange:
    """``X -> N X``: the packets of the hosts that this one looks at, and its own, in order; zeros of the others."""
    me = streams.host
    lookers = [n for n in range(streams.hosts) if looks_NN[n, me] and n != me]
    seen = [n for n in range(streams.hosts) if looks_NN[me, n] and n != me]

    outgoing = lambda packet: dict.fromkeys(lookers, _bytes_of(packet))

    def join(packet, came):
        packet_NX = np.zeros((streams.hosts, *packet.shape), packet.dtype)
        packet_NX[me] = packet
        for other, values in came.items():
            packet_NX[other] = values
        return packet_NX

    return _exchange(streams, packet, packet.shape, outgoing, seen, join, (streams.hosts, *packet.shape))


def all_to_all(streams: Streams, packet_NX: Array) -> HostExchange:
    """``N X -> N X``: what every host has for this one, in order."""
    me = streams.host
    others = [n for n in range(streams.hosts) if n != me]

    def join(packet_NX, came):
        packet_NX = packet_NX.copy()
        for other, values in came.items():
            packet_NX[other] = values
        return packet_NX

    outgoing = lambda packet_NX: {n: _bytes_of(packet_NX[n]) for n in others}
    return _exchange(streams, packet_NX, packet_NX.shape[1:], outgoing, others, join, packet_NX.shape)


def ring_shift(streams: Streams, packet: Array) -> HostExchange:
    """``X -> X``: the packet of the host before this one, whose own goes to the one behind it, round the circle."""
    before, behind = (streams.host - 1) % streams.hosts, (streams.host + 1) % streams.hosts
    outgoing = lambda packet: {behind: _bytes_of(packet)}
    return _exchange(streams, packet, packet.shape, outgoing, [before], lambda _, came: came[before], packet.shape)


def _bytes_of(packet: np.ndarray) -> memoryview:
    return np.ascontiguousarray(packet).reshape(-1).view(np.uint8).data


def _exchange(
    streams: Streams,
    own: Array,
    piece: tuple[int, ...],
    outgoing: Callable[[np.ndarray], Mapping[int, Bytes]],
    senders: list[int],
    join: Callable[[np.ndarray, Mapping[int, np.ndarray]], np.ndarray],
    shape: tuple[int, ...],
) -> HostExchange:
    """Sends ``outgoing`` of the own packets; receives a ``piece`` of each sender, and joins them with the own ones."""
    (number, identity), dtype = next_exchange(), own.dtype
    size = math.prod(piece) * dtype.itemsize
    send = lambda own, identity: streams.send(outgoing(own), number, identity)

    def receive(own: np.ndarray, identity: int) -> np.ndarray:
        came = streams.receive(senders, size, number, identity)
        return join(own, {n: np.frombuffer(raw, dtype).reshape(piece) for n, raw in came.items()})

    return HostExchange(own, identity, send, receive, jax.ShapeDtypeStruct(shape, dtype))
