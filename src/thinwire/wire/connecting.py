"""How hosts find each other's streams: each listens, connects to all others, and says who it is by a common key."""

import contextlib
import hmac
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Mapping, Set

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.wire.streams import Streams, keep_open

KEY_BYTES = 32
_GREETING = struct.Struct(f"<{KEY_BYTES}sI")  # the key, and which host greets


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

    family = socket.AF_INET6 if ":" in own_address else socket.AF_INET
    listener = socket.create_server((own_address, 0), family=family)
    here = f"{own_address} {listener.getsockname()[1]}".encode().ljust(64)
    everywhere = multihost_utils.process_allgather(np.frombuffer(here, np.uint8))
    key = np.frombuffer(secrets.token_bytes(KEY_BYTES), np.uint8)
    key = np.asarray(multihost_utils.broadcast_one_to_all(key)).astype(np.uint8).tobytes()
    texts = [np.asarray(one).astype(np.uint8).tobytes().decode().split() for one in everywhere]
    addresses = {n: (address, int(port)) for n, (address, port) in enumerate(texts)}
    keep_open(connect(jax.process_index(), addresses, listener, key, timeout_s))


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
    others = addresses.keys() - {host}
    with contextlib.ExitStack() as opened:
        opened.callback(listener.close)
        sending = {n: opened.enter_context(_greeting(host, n, addresses[n], key, deadline)) for n in others}
        receiving = _greeted(listener, others, key, deadline)
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


def _greeted(listener: socket.socket, others: Set[int], key: bytes, deadline: float) -> dict[int, socket.socket]:
    """A connection from each of the other hosts; whoever does not know the key is sent away, and holds nobody up."""
    found: dict[int, socket.socket] = {}
    guests: dict[socket.socket, bytes] = {}  # and what they have said so far
    listener.setblocking(False)
    with selectors.DefaultSelector() as ears, contextlib.ExitStack() as undone:
        undone.callback(lambda: [connection.close() for connection in (*guests, *found.values())])
        ears.register(listener, selectors.EVENT_READ, listener)
        while missing := others - found.keys():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ThinwireError(
                    f"No connection came from host {', '.join(map(str, sorted(missing)))}; open this host's ports to "
                    "it, or set THINWIRE_EXCHANGE=gloo."
                )
            for ready, _ in ears.select(left_s):
                if ready.data is listener:
                    with contextlib.suppress(OSError):  # it has gone again
                        guest, _ = listener.accept()
                        guest.setblocking(False)
                        guests[guest] = b""
                        ears.register(guest, selectors.EVENT_READ, guest)
                    continue
                guest = ready.data
                heard = _hear(guest, _GREETING.size - len(guests[guest]))
                guests[guest] += heard
                if heard and len(guests[guest]) < _GREETING.size:
                    continue
                ears.unregister(guest)
                other = _who(guests.pop(guest), key)
                if other is not None and other in others - found.keys():
                    found[other] = guest
                else:
                    guest.close()
        undone.pop_all()
    for guest in guests:
        guest.close()
    return found


def _hear(guest: socket.socket, size: int) -> bytes:
    """What a guest says next, up to so many bytes; nothing if it has gone."""
    try:
        return guest.recv(size)
    except OSError:
        return b""


def _who(greeting: bytes, key: bytes) -> int | None:
    """Which host this greeting is of, if it knows the key."""
    if len(greeting) != _GREETING.size:
        return None
    given, other = _GREETING.unpack(greeting)
    return other if hmac.compare_digest(given, key) else None
