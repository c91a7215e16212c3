"""What the tests of emulated hosts run on each: `python emulated_worker.py TASK [ARGUMENT]`."""

import os
import socket
import sys
import time
from pathlib import Path

HOST = int(os.environ.get("THINWIRE_HOST", 0))


def stream(amount):
    """Host 0 sends so many bytes to h1, which prints how many came and in how many seconds."""
    port = int(os.environ["THINWIRE_COORDINATOR"].rpartition(":")[2])
    if HOST == 0:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = socket.create_connection(("h1", port))
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        with connection:
            connection.sendall(bytes(int(amount)))
        return
    with socket.create_server((socket.gethostname(), port)) as listener:
        connection, _ = listener.accept()
        with connection:
            begin, received = time.perf_counter(), 0
            while part := connection.recv(1 << 16):
                received += len(part)
            print(received, time.perf_counter() - begin)


def datagrams(count):
    """Host 0 sends so many datagrams to h1, which prints how many came until none did for a second."""
    if HOST == 0:
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            time.sleep(1)  # the other must be listening: what comes earlier is lost too
            for _ in range(int(count)):
                sender.sendto(b"x", ("h1", 9999))
                time.sleep(0.001)
        return
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("h1", 9999))
        receiver.settimeout(10)
        arrived = 0
        try:
            while arrived < int(count):
                receiver.recv(10)
                receiver.settimeout(1)
                arrived += 1
        except TimeoutError:
            pass
        print(arrived)


def spin():
    """Computes for a second and prints the CPU time that it got, and the time that passed."""
    begin, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < 1:
        pass
    print(time.process_time() - used, time.perf_counter() - begin)


def occupy():
    """Host 0 listens at the port of the rendezvous."""
    if HOST == 0:
        address, _, port = os.environ["THINWIRE_COORDINATOR"].rpartition(":")
        with socket.create_server((address, int(port))):
            print("occupied", flush=True)
            time.sleep(600)
    time.sleep(600)


def absent():
    """Host 1 does not come to the handshake."""
    from thinwire.cluster.rendezvous import join

    if HOST == 1:
        time.sleep(600)
    join()


def fails():
    """Host 1 fails while the others wait for it."""
    from jax.experimental import multihost_utils

    from thinwire.cluster.rendezvous import join

    join({"task": "fails"})
    if HOST == 1:
        raise RuntimeError("out of luck")
    multihost_utils.sync_global_devices("never")


def psum():
    """All hosts add up their number, counted from 1, in one compiled program."""
    from thinwire.cluster.rendezvous import join, leave

    meeting = join({"task": "psum"})
    import jax
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from thinwire.errors import ThinwireError
    from thinwire.wire.spmd import make_mesh

    mesh = make_mesh(meeting.hosts)
    (axis,) = mesh.axis_names
    mine = np.array([meeting.host + 1.0], np.float32)
    everybody = jax.make_array_from_callback((meeting.hosts,), NamedSharding(mesh, P(axis)), lambda index: mine)
    add = jax.jit(jax.shard_map(lambda x: jax.lax.psum(x, axis), mesh=mesh, in_specs=P(axis), out_specs=P()))
    print("sum", float(add(everybody)[0]), "of", jax.device_count())
    print("listening at", *sorted(_listening()))
    try:
        join({"task": "psum"})
    except ThinwireError as error:
        print("again:", error)
    leave()


def crowd():
    """All hosts give out passes with large packets, and work of their own, before any of them is done."""
    from thinwire.cluster.rendezvous import join, leave

    meeting = join({"task": "crowd"})
    import jax
    import jax.numpy as jnp
    import numpy as np

    from thinwire.wire import collectives
    from thinwire.wire.spmd import make_mesh, put, spmd
    from thinwire.wire.streams import between, streaming

    mesh = make_mesh(meeting.hosts)
    gathered = lambda x: collectives.all_gather({"x": x + 1}, "all")["x"][-1]
    own = put(np.zeros(200_000, np.float32), mesh, False)
    with streaming(between(meeting.hosts)):
        gather = jax.jit(spmd(gathered, mesh, (False,))).lower(own).compile()
    work = jax.jit(lambda x: x @ x @ x @ x * 1e-9)
    square = jnp.ones((500, 500))
    jax.block_until_ready((work(square), gather(own)))
    given = [(work(square), gather(own)) for _ in range(3)]
    print("given out", float(jax.block_until_ready(given)[-1][1].addressable_shards[0].data.reshape(-1)[0]))
    leave()


def _listening():
    """The addresses at which sockets of this host's namespace listen."""
    for family, file in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for words in map(str.split, Path(f"/proc/net/{file}").read_text().splitlines()[1:]):
            if words[3] == "0A":  # TCP_LISTEN
                address = bytes.fromhex(words[1].partition(":")[0])
                numbers = b"".join(address[n : n + 4][::-1] for n in range(0, len(address), 4))
                yield socket.inet_ntop(family, numbers).removeprefix("::ffff:")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
