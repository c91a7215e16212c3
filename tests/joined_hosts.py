"""Hosts as threads of this process, joined over the loopback by streams."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

from thinwire.wire import connecting

KEY = bytes(range(connecting.KEY_BYTES))
SECONDS = 10


@contextlib.contextmanager
def joined(hosts=3):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(hosts)]
    addresses = {n: listener.getsockname() for n, listener in enumerate(listeners)}
    with ThreadPoolExecutor(hosts) as pool:
        connect = lambda n: connecting.connect(n, addresses, listeners[n], KEY, SECONDS)
        found = list(pool.map(connect, range(hosts)))
        try:
            yield found, pool
        finally:
            list(pool.map(lambda one: one.close(), found))
