"""Where the bytes are sent. Every collective of the library is one of these, carries a payload and writes the ledger.

Notation as in the einsum strings of the docstrings: ``[X]`` is a payload of X on one device, ``/n`` a part a device.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from thinwire.codecs.base import Codec, CodecParams, Payload
from thinwire.wire import host_exchange, ledger, message
from thinwire.wire.host_exchange import HostExchange
from thinwire.wire.silence import hold_back, place_alone, silent
from thinwire.wire.spmd import AXIS, is_virtual
from thinwire.wire.streams import Streams, used

# Of a packet between two hosts: shorter pieces wait longer than they travel, with longer ones hosts fall out of step.
PIECE_BYTES = 1 << 15
MOST_PIECES = 32
P = TypeVar("P")
Q = TypeVar("Q")


def device_index() -> jax.Array | int:
    """The index n of the device that runs this: a number where the program is of one device only.

    Hosts joined by ``streams`` each have a program of their own, without what only others do, and so has a device that
    is traced alone. On a mesh and on virtual devices all have the same.
    """
    if (alone := place_alone()) is not None:
        return alone[0]
    streams = _between_hosts()
    return lax.axis_index(AXIS) if streams is None else streams.host


def of_this_device(table_NX: np.ndarray) -> Any:
    """What a table that all devices have says of the one that runs this; known when the program is of one only."""
    me = device_index()
    return table_NX[me] if isinstance(me, int) else jnp.asarray(table_NX)[me]


def device_count() -> int:
    """The number N of devices."""
    alone = place_alone()
    return lax.axis_size(AXIS) if alone is None else alone[1]


class AsyncCollective(Generic[P]):
    """A collective that has been started, and whose payloads are waited for where they are needed.

    Between hosts joined by ``streams`` they leave before what is computed of ``meanwhile``, or with ``wait`` where
    there is nothing; elsewhere XLA sees to it.
    """

    def __init__(self, packets: Array | HostExchange, payload_of: Callable[[Array], P]):
        self._packets, self._payload_of = packets, payload_of

    @jax.named_scope("exchange")
    def meanwhile(self, tree: Any) -> Any:
        """The arrays of the tree, for what is to be computed while the payloads travel."""
        return self._packets.meanwhile(tree) if isinstance(self._packets, HostExchange) else tree

    @jax.named_scope("exchange")
    def wait(self, after: Any = ()) -> P:
        """What has come; the arrays of ``after`` are to be computed before."""
        return self._payload_of(self._packets.wait(after) if isinstance(self._packets, HostExchange) else self._packets)

    def then(self, function: Callable[[P], Q]) -> "AsyncCollective[Q]":
        """What ``function`` makes of the payloads, on its way."""
        return AsyncCollective(self._packets, lambda packets: function(self._payload_of(packets)))


@jax.named_scope("exchange")
def start_all_gather(
    payload: Payload, site: str, looks_NN: Bool[np.ndarray, "N N"] | None = None
) -> AsyncCollective[Payload]:
    """``[R/n] -> N [R/n]``: every device gets every device's payload, in order, as a leading axis.

    Args:
        payload: of this device.
        site: what is sent, for the ledger.
        looks_NN: whether the first device looks at the second one's payload, where not all look at all. Between hosts
            joined by ``streams`` the others' payloads are not sent, and zeros come in their place.
    """
    packet = message.join(payload)
    count, me = device_count(), device_index()
    streams = _between_hosts()
    if silent() and looks_NN is not None and isinstance(me, int) and not np.delete(looks_NN[me], me).any():
        hold_back(packet)  # which nothing else here asks for
    if looks_NN is None or streams is None:
        looks_NN = np.ones((count, count), bool)
    receivers = tuple(int(n) for n in (looks_NN & ~np.eye(count, dtype=bool)).sum(axis=0))
    ledger.record(site, "all_gather", tuple(message.size_bytes(packet) * n for n in receivers), receivers)
    if silent():
        packets = jnp.stack([packet] * count)
    else:
        packets = host_exchange.all_gather(streams, packet, looks_NN) if streams else _gathered(packet, count)
    return AsyncCollective(packets, jax.vmap(lambda one: message.part(one, payload)))


def all_gather(payload: Payload, site: str, looks_NN: Bool[np.ndarray, "N N"] | None = None) -> Payload:
    """``start_all_gather``, and waits."""
    return start_all_gather(payload, site, looks_NN).wait()


def start_all_gather_parts(
    payloads: list[Payload], site: str, looks_NN: Bool[np.ndarray, "N N"] | None
) -> AsyncCollective[list[Payload]]:
    """``start_all_gather`` of several payloads in one message; nothing is sent where there is none."""
    if not payloads:
        return AsyncCollective(jnp.zeros(0), lambda nothing: [])
    together = {f"{n}/{name}": values for n, payload in enumerate(payloads) for name, values in payload.items()}
    started = start_all_gather(together, site, looks_NN)
    parts = lambda found: [{name: found[f"{n}/{name}"] for name in payload} for n, payload in enumerate(payloads)]
    return started.then(parts)


def _between_hosts() -> Streams | None:
    """The connections through which packets go, if they do not go through XLA's collectives."""
    return None if is_virtual() else used()


def _gathered(packet: Array, count: int) -> Array:
    """The packet in one piece or, between two CPU hosts, a long one in several, one after another.

    gloo sends half of a packet before it asks the other host for theirs, on the same connection, so whoever comes
    second makes the other one wait for that half. With more hosts it asks on another connection.
    """
    size = message.size_bytes(packet)
    if count != 2 or size <= PIECE_BYTES or is_virtual() or jax.default_backend() != "cpu":
        return lax.all_gather(packet, AXIS)
    flat = packet.reshape(-1)
    step = -(-max(PIECE_BYTES, -(-size // MOST_PIECES)) // packet.dtype.itemsize)
    pieces = [lax.all_gather(flat[start : start + step], AXIS) for start in range(0, flat.shape[0], step)]
    return jnp.concatenate(pieces, axis=1).reshape(count, *packet.shape)


@jax.named_scope("exchange")
def start_ring_shift(payload: Payload, site: str) -> AsyncCollective[Payload]:
    """``[R/n] -> [R/(n−1)]``: every device hands its payload to the next and gets the previous one's."""
    packet = message.join(payload)
    count = device_count()
    streams = _between_hosts()
    _record(site, "ring_shift", message.size_bytes(packet), 1)
    if streams and not silent():
        packets = host_exchange.ring_shift(streams, packet)
    else:
        packets = _shift(packet, [(n, (n + 1) % count) for n in range(count)])
    return AsyncCollective(packets, lambda packet: message.part(packet, payload))


@jax.named_scope("exchange")
def halo(payload: Payload, site: str) -> tuple[Payload, Payload]:
    """``[R/n] -> [R/(n−1)], [R/(n+1)]``: the neighbours' payloads; zeros beyond the two ends."""
    packet = message.join(payload)
    count = device_count()
    size = message.size_bytes(packet)
    neighbours = tuple((n > 0) + (n < count - 1) for n in range(count))
    ledger.record(site, "halo", tuple(size * k for k in neighbours), neighbours)
    return message.part(_open_shift(packet, 1), payload), message.part(_open_shift(packet, -1), payload)


def reduce_scatter(x_TD: Float[Array, "T D"], codec: Codec, params: CodecParams, site: str) -> Float[Array, "T_n D"]:
    """``T D (partial) -> T/n D``: device n gets the sum of everybody's rows of part n, ⌈T/N⌉ rows, padded with zeros.

    Codes cannot be added, so parts travel as codes (all-to-all), are decoded and summed in float32; a device's own
    part is not coded. [papers: ZeRO++ qgZ, Flash Communication]
    """
    count = device_count()
    parts_NTD = _parts(x_TD, count)
    valid_NT = _valid(x_TD.shape[0], count)
    encode, decode = _coder(codec, params)
    payload_N = jax.vmap(lambda part, valid: encode(part, {"valid": valid}))(parts_NTD, valid_NT)
    received_N = _all_to_all(payload_N, site)
    rows, dim = parts_NTD.shape[1:]
    decoded_NTD = jax.vmap(lambda payload: decode(payload, rows, dim))(received_N)
    own = device_index()
    exact = jnp.take(parts_NTD, own, axis=0).astype(jnp.float32)
    return decoded_NTD.at[own].set(exact).sum(axis=0)


def all_reduce(x_TD: Float[Array, "T D"], codec: Codec, params: CodecParams, site: str) -> Float[Array, "T D"]:
    """``T D (partial) -> T D``: reduce-scatter of codes, then all-gather of the codes of the sums; float32.

    Every device decodes the same codes, so all hold the same rows, bit for bit.
    """
    if device_count() == 1:
        return x_TD.astype(jnp.float32)
    rows = x_TD.shape[0]
    encode, decode = _coder(codec, params)
    sum_TD = reduce_scatter(x_TD, codec, params, site)
    valid_T = _valid(rows, device_count())[device_index()]
    gathered_N = all_gather(encode(sum_TD, {"valid": valid_T}), site)
    whole_NTD = jax.vmap(lambda payload: decode(payload, *sum_TD.shape))(gathered_N)
    return whole_NTD.reshape(-1, x_TD.shape[1])[:rows]


def part_rows(rows: int, devices: int) -> int:
    """Rows of one device's part in ``reduce_scatter``."""
    return -(-rows // devices)


@jax.named_scope("exchange")
def _all_to_all(payload_N: Payload, site: str) -> Payload:
    """``[N X] -> [N X]``: part m of device n becomes part n of device m."""
    packet_N = jax.vmap(message.join)(payload_N)
    count = device_count()
    _record(site, "all_to_all", message.size_bytes(packet_N) // count * (count - 1), count - 1)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), payload_N)
    streams = _between_hosts()
    if silent():
        received = packet_N
    elif streams:
        received = host_exchange.all_to_all(streams, packet_N).wait()
    else:
        received = lax.all_to_all(packet_N, AXIS, split_axis=0, concat_axis=0)
    unpack: Callable[[Array], Payload] = lambda one: message.part(one, like)
    return jax.vmap(unpack)(received)


def _coder(codec: Codec, params: CodecParams):
    """Encoding and decoding by a codec, named in profiles."""
    encode = lambda rows, known: codec.encode(params, rows, known)
    decode = lambda payload, rows, dim: codec.decode(params, payload, rows, dim)
    return jax.named_scope("encode")(encode), jax.named_scope("decode")(decode)


def _open_shift(packet, by):
    """What device ``n − by`` has, zeros where there is none; nothing is sent around the ends."""
    count = device_count()
    if is_virtual():  # vmap permutes only in whole circles
        around = _shift(packet, [(n, (n + by) % count) for n in range(count)])
        source = device_index() - by
        return jnp.where((source >= 0) & (source < count), around, jnp.zeros_like(around))
    return _shift(packet, [(n, n + by) for n in range(count) if 0 <= n + by < count])


def _shift(packet, pairs):
    return packet if silent() else lax.ppermute(packet, AXIS, pairs)


def _parts(x_TD, count):
    rows = part_rows(x_TD.shape[0], count)
    padded = jnp.pad(x_TD, ((0, rows * count - x_TD.shape[0]), (0, 0)))
    return padded.reshape(count, rows, -1)


def _valid(rows, count):
    """Which rows of each device's part are not padding."""
    return (jnp.arange(part_rows(rows, count) * count) < rows).reshape(count, -1)


def _record(site, collective, sent, messages):
    count = device_count()
    ledger.record(site, collective, (sent,) * count, (messages,) * count)
