"""The round trip of a small message between two hosts, as a program on them would see it on an idle machine."""

import socket
import statistics
import threading
import time

from thinwire.cluster import namespaces
from thinwire.cluster.emulated import Cluster

_TIMES, _BYTES = 25, 64


def round_trip_s(cluster: Cluster) -> float:
    """Median seconds from host 1 to host 0 and back; 0 for a host that is alone. No CPU share holds it up."""
    if len(cluster.addresses) == 1:
        return 0.0
    place = lambda host: namespaces.host_namespace(cluster.name, host)
    with namespaces.inside(place(0), lambda: socket.create_server((cluster.addresses[0], 0))) as listener:
        echo = threading.Thread(target=_echo, args=(listener,), daemon=True)
        echo.start()
        address = listener.getsockname()
        with namespaces.inside(place(1), lambda: socket.create_connection(address, timeout=10)) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds = [_once(link) for _ in range(_TIMES)]
        echo.join(timeout=10)
    return statistics.median(seconds)


def _echo(listener: socket.socket) -> None:
    link, _ = listener.accept()
    with link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while message := link.recv(_BYTES):
            link.sendall(message)


def _once(link: socket.socket) -> float:
    begun = time.perf_counter()
    link.sendall(bytes(_BYTES))
    left = _BYTES
    while left:
        left -= len(link.recv(left))
    return time.perf_counter() - begun
