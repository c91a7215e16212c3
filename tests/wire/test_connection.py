"""One direction of a connection, over a pair of sockets: what comes is what was sent, by whatever thread."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joined_hosts import SECONDS
from thinwire.wire.connection import AT_ONCE, LAG, MOST_BYTES, Incoming, Outgoing

BIG = 1 << 20  # bytes that a pair of sockets does not hold


@pytest.fixture
def both():
    left, right = socket.socketpair()
    outgoing, incoming = Outgoing(left), Incoming(right)
    yield outgoing, incoming
    end(outgoing, incoming, left, right)


def end(outgoing, incoming, *sockets):
    outgoing.fail(ConnectionError("over"))
    incoming.fail(ConnectionError("over"))
    for one in sockets:
        with one:
            one.shutdown(socket.SHUT_RDWR)


def content(number, size):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()


@given(st.lists(st.sampled_from([0, 1, 100, AT_ONCE, AT_ONCE + 1, BIG]), max_size=12))
def test_packets_come_whole_and_in_order_whatever_their_sizes(sizes):
    left, right = socket.socketpair()
    outgoing, incoming = Outgoing(left), Incoming(right)
    sent = [content(number, size) for number, size in enumerate(sizes)]
    with ThreadPoolExecutor(1) as pool:
        sends = pool.submit(lambda: [outgoing.put(7, number, raw) for number, raw in enumerate(sent)])
        came = [incoming.get(7, len(raw)) for raw in sent]
        sends.result(SECONDS)
    assert [(of, bytes(raw)) for of, raw in came] == list(enumerate(sent))
    end(outgoing, incoming, left, right)


def test_small_packets_need_no_thread(both):
    outgoing, incoming = both
    before = threading.active_count()
    for number in range(2 * LAG):
        outgoing.put(0, number, content(number, 100))
        assert incoming.get(0, 100) == (number, content(number, 100))
    assert threading.active_count() == before


def test_large_packets_are_read_while_nobody_waits(both):
    outgoing, incoming = both
    for number in range(4):
        outgoing.put(0, number, content(number, BIG))
    assert incoming.get(0, BIG) == (0, content(0, BIG))
    outgoing.finish(SECONDS)  # all the others fit in nowhere but in what has been read ahead
    assert not outgoing._left
    for number in range(1, 4):
        assert incoming.get(0, BIG) == (number, content(number, BIG))


def test_who_reads_keeps_for_others_what_is_theirs(both):
    outgoing, incoming = both
    with ThreadPoolExecutor(3) as pool:
        waits = {exchange: pool.submit(incoming.get, exchange, 5) for exchange in (3, 2, 1)}
        for exchange in (2, 1, 3):
            with pytest.raises(NotYet):
                waits[exchange].result(timeout=0.05)
            outgoing.put(exchange, 0, content(exchange, 5))
            assert waits[exchange].result(SECONDS) == (0, content(exchange, 5))


def test_nobody_is_ahead_by_more_than_the_lag(both):
    outgoing, incoming = both
    with ThreadPoolExecutor(1) as pool:
        puts = pool.submit(lambda: [outgoing.put(0, 0, bytes(BIG)) for _ in range(LAG + 20)])
        with pytest.raises(NotYet):
            puts.result(timeout=0.3)
        assert len(outgoing._left) == LAG
        for _ in range(LAG + 20):
            incoming.get(0, BIG)
        puts.result(SECONDS)


def test_who_waits_for_room_is_told_of_the_end(both):
    outgoing, _ = both
    with ThreadPoolExecutor(1) as pool:
        puts = pool.submit(lambda: [outgoing.put(0, 0, bytes(BIG)) for _ in range(2 * LAG)])
        with pytest.raises(NotYet):
            puts.result(timeout=0.2)
        outgoing.fail(ConnectionError("enough of it"))
        with pytest.raises(ConnectionError, match="enough of it"):
            puts.result(SECONDS)


@pytest.mark.parametrize("size", [5, BIG])
def test_who_waits_for_a_packet_is_told_of_the_end(both, size):
    outgoing, incoming = both
    with ThreadPoolExecutor(1) as pool:
        gets = pool.submit(incoming.get, 1, size)
        with pytest.raises(NotYet):
            gets.result(timeout=0.2)
        incoming.fail(ConnectionError("enough of it"), forget=True)
        outgoing._connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionError, match="enough of it"):
            gets.result(SECONDS)


def test_what_has_come_can_be_fetched_after_the_other_side_has_left(both):
    outgoing, incoming = both
    for number in range(3):
        outgoing.put(0, number, content(number, 50))
    outgoing.finish(SECONDS)
    outgoing._connection.shutdown(socket.SHUT_WR)
    for number in range(3):
        assert incoming.get(0, 50) == (number, content(number, 50))
    with pytest.raises(ConnectionError, match="has closed the connection"):
        incoming.get(0, 50)


def test_an_impossible_announcement_ends_it(both):
    outgoing, incoming = both
    outgoing._connection.sendall((0).to_bytes(8, "little") + (MOST_BYTES + 1).to_bytes(8, "little"))
    for _ in range(2):
        with pytest.raises(ConnectionError, match=f"announces a packet of {MOST_BYTES + 1} bytes"):
            incoming.get(0, 5)
