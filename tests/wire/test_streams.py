"""Hosts as threads of this process, joined over the loopback: who waits for whom, and what is refused."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import jax.numpy as jnp
import numpy as np
import pytest

from joined_hosts import KEY, SECONDS, joined
from thinwire.errors import ThinwireError
from thinwire.wire import connecting, connection, streams

EVERYBODY = np.ones((3, 3), bool)
BACK = np.tril(EVERYBODY)  # as in a causal model: hosts look at themselves and at those before them
BIG = np.ones(1 << 20, np.uint8)  # so that sockets do not hold all that nobody has fetched yet


def exchange(one, packet, looks_NN, number=0, identity=0):
    """Sends the packet to those that look at it, and waits for the others'; zeros of those that it does not look at."""
    others = [n for n in range(one.hosts) if n != one.host]
    one.send({n: packet.tobytes() for n in others if looks_NN[n, one.host]}, number, identity)
    came = one.receive([n for n in others if looks_NN[one.host, n]], packet.nbytes, number, identity)
    zeros = np.zeros_like(packet)
    seen = {n: np.frombuffer(raw, packet.dtype) for n, raw in came.items()} | {one.host: packet}
    return np.stack([seen.get(n, zeros) for n in range(one.hosts)])


def failure_of(one, packet):
    with pytest.raises(ConnectionError) as failure:
        exchange(one, packet, EVERYBODY[:2, :2])
    return str(failure.value)


def far_ahead(one, pool):
    """A host that cannot go on, since nobody fetches what it has sent."""
    runs = pool.submit(lambda: [exchange(one, BIG, BACK[:2, :2]) for _ in range(3 * connection.LAG)])
    with pytest.raises(NotYet):
        runs.result(timeout=1.0)
    return runs


def packet(host, size=5, number=0):
    return (np.arange(size) + 10 * host + 100 * number).astype(np.uint8)


def test_everybody_gets_everybodys_packets_in_order():
    with joined() as (found, pool):
        for number in range(3):
            mine = [packet(n, number=number) for n in range(3)]
            gathered = pool.map(lambda one, mine=mine: exchange(one, mine[one.host], EVERYBODY), found)
            for seen in gathered:
                np.testing.assert_array_equal(seen, mine)
        assert [one.sent_bytes for one in found] == [3 * 2 * 5] * 3


def test_exchanges_of_different_numbers_may_come_in_any_order():
    both = EVERYBODY[:2, :2]
    with joined(2) as (found, pool), ThreadPoolExecutor(2) as more:
        early = pool.submit(lambda: [exchange(found[0], packet(0, number=n), both, n) for n in (1, 2)])
        late = pool.submit(exchange, found[0], packet(0, number=3), both, 3)
        ahead = more.submit(exchange, found[1], packet(1, number=3), both, 3)
        for number in (1, 2):
            seen = exchange(found[1], packet(1, number=number), both, number)
            np.testing.assert_array_equal(seen, [packet(n, number=number) for n in range(2)])
        np.testing.assert_array_equal(early.result(SECONDS)[1][1], packet(1, number=2))
        for one in (late, ahead):
            np.testing.assert_array_equal(one.result(SECONDS), [packet(n, number=3) for n in range(2)])


def test_who_is_far_ahead_of_a_host_that_dies_can_still_leave():
    with joined(2) as (found, pool):
        runs = far_ahead(found[0], pool)
        found[1].close()
        with pytest.raises(ConnectionError, match="Host 1 is gone"):
            runs.result(SECONDS)
        pool.submit(found[0].close).result(SECONDS)


@pytest.mark.parametrize("turn", range(3))  # a race, lost in every second turn
def test_who_waits_for_room_at_a_host_that_leaves_is_told(monkeypatch, turn):
    end = streams.Streams._end

    def end_slowly(self, *given, **more):  # readers empty the connections after the shutdown, before they are closed
        end(self, *given, **more)
        time.sleep(0.3)

    with joined(2) as (found, pool):
        runs = far_ahead(found[0], pool)
        monkeypatch.setattr(streams.Streams, "_end", end_slowly)
        found[1].close()
        with pytest.raises(ConnectionError, match="Host 1 is gone"):
            runs.result(SECONDS)


def test_what_is_left_is_sent_before_a_host_leaves():
    with joined(2) as (found, pool):
        for _ in range(20):
            exchange(found[0], BIG, BACK[:2, :2])
        left = pool.submit(found[0].close)
        for _ in range(20):
            assert exchange(found[1], BIG, BACK[:2, :2])[0].all()
        left.result(SECONDS)


def test_who_looks_at_nobody_runs_ahead_and_gets_zeros():
    with joined() as (found, pool):
        ahead = [exchange(found[0], packet(0, number=number), BACK) for number in range(4)]
        for number, seen in enumerate(ahead):
            np.testing.assert_array_equal(seen, [packet(0, number=number), np.zeros(5), np.zeros(5)])
        waits = pool.submit(exchange, found[2], packet(2), BACK)  # host 1 has sent nothing yet
        with pytest.raises(NotYet):
            waits.result(timeout=0.2)
        np.testing.assert_array_equal(exchange(found[1], packet(1), BACK), [packet(0), packet(1), np.zeros(5)])
        np.testing.assert_array_equal(waits.result(SECONDS), [packet(n) for n in range(3)])
        assert [one.sent_bytes for one in found] == [4 * 2 * 5, 5, 0]


def test_a_host_is_only_so_far_ahead():
    with joined(2) as (found, pool):
        runs = far_ahead(found[0], pool)
        for _ in range(3 * connection.LAG):
            exchange(found[1], BIG, BACK[:2, :2])
        runs.result(SECONDS)


def test_a_host_that_has_gone_is_named():
    with joined() as (found, _):
        found[1].close()
        for _ in range(2):  # also when it is asked again
            with pytest.raises(ConnectionError, match="Host 1 is gone"):
                exchange(found[2], packet(2), np.eye(3, k=-1, dtype=bool))


def test_packets_of_other_sizes_are_refused():
    with joined(2) as (found, pool):
        sizes = {0: 4, 1: 5}
        failures = list(pool.map(lambda one: failure_of(one, packet(one.host, sizes[one.host])), found))
        told = {
            0: "Host 1 has sent 5 bytes where 4 were expected.",
            1: "Host 0 has sent 4 bytes where 5 were expected.",
        }
        assert any(failures[n] == told[n] for n in sizes), failures  # who finds out first ends it
        assert all(failures[n] == told[n] or "is gone" in failures[n] for n in sizes), failures


def test_packets_of_another_pass_end_it_for_all_and_for_good():
    with joined() as (found, pool):
        exchange(found[0], packet(0), BACK, identity=7)  # host 0 waits for nobody, and goes on to the next pass
        exchange(found[0], packet(0), BACK, identity=8)
        waits = pool.submit(exchange, found[2], packet(2), EVERYBODY, identity=7)
        with pytest.raises(
            ConnectionError, match="Host 0 makes another pass than host 1: all hosts must make the same"
        ):
            exchange(found[1], packet(1), BACK, identity=8)  # it has left one out
        with pytest.raises(ConnectionError, match=r"is gone|another pass"):
            waits.result(SECONDS)
        for _ in range(2):  # the packets of pass 8 are there now, behind those of 7
            with pytest.raises(ConnectionError, match="another pass"):
                found[1].receive([0], 5, 0, 8)
            with pytest.raises(ConnectionError, match="another pass"):
                found[1].send({2: b"later"}, 0, 8)


def test_a_pass_is_known_by_its_program_and_every_word_of_its_inputs():
    ids_T = np.arange(1024, dtype=np.int32)
    pixels_TD = np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30)
    seen = {int(streams.pass_identity("a", jnp.asarray(x))) for x in (ids_T, ids_T[::-1], pixels_TD, -pixels_TD)}
    seen |= {int(streams.pass_identity("b", jnp.asarray(ids_T)))}
    for place in (0, 1, 511, 1023):
        other_T = ids_T.copy()
        other_T[place] += 1
        seen |= {int(streams.pass_identity("a", jnp.asarray(other_T)))}
    assert len(seen) == 9
    assert int(streams.pass_identity("a", jnp.asarray(ids_T))) in seen


@pytest.mark.parametrize("greeting", [b"x" * 36, b"GET / HTTP/1.1\r\n\r\n" * 3, b"", KEY + (7).to_bytes(4, "little")])
def test_strangers_are_sent_away(greeting):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = {n: listener.getsockname() for n, listener in enumerate(listeners)}
    with ThreadPoolExecutor(2) as pool, socket.create_connection(addresses[0]) as stranger:
        stranger.sendall(greeting)
        stranger.shutdown(socket.SHUT_WR)
        found = list(pool.map(lambda n: connecting.connect(n, addresses, listeners[n], KEY, SECONDS), range(2)))
        stranger.settimeout(SECONDS)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""  # closed, and told nothing
        for seen in pool.map(lambda one: exchange(one, packet(one.host), EVERYBODY[:2, :2]), found):
            np.testing.assert_array_equal(seen, [packet(n) for n in range(2)])
        list(pool.map(lambda one: one.close(), found))


def test_who_says_nothing_holds_nobody_up():
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = {n: listener.getsockname() for n, listener in enumerate(listeners)}
    with contextlib.ExitStack() as stack:
        for address in [*addresses.values()] * 2:
            stack.enter_context(socket.create_connection(address)).sendall(b"half a greeting")
        pool = stack.enter_context(ThreadPoolExecutor(2))
        joining = pool.map(
            lambda n: connecting.connect(n, addresses, listeners[n], KEY, 120), range(2), timeout=SECONDS
        )
        for one in list(joining):
            one.close()


def test_who_cannot_be_reached_or_does_not_come_is_named():
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = {n: listener.getsockname() for n, listener in enumerate(listeners)}
    with pytest.raises(ThinwireError, match=r"No connection came from host 1; open .* THINWIRE_EXCHANGE=gloo"):
        connecting.connect(0, addresses, listeners[0], KEY, 0.3)
    listeners[1].close()  # which leaves nobody there
    with pytest.raises(ThinwireError, match=r"cannot reach host 1 at 127\.0\.0\.1"):
        connecting.connect(0, addresses, socket.create_server(("127.0.0.1", 0)), KEY, 0.3)


def test_no_thread_is_left():
    before = threading.active_count()
    with joined(2) as (found, pool):
        runs = far_ahead(found[0], pool)  # readers of host 1 wait for their packets to be fetched
        found[1].close()
        with pytest.raises(ConnectionError):
            runs.result(SECONDS)
        assert threading.active_count() > before
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-"):
            thread.join(SECONDS)
    assert threading.active_count() <= before
