"""Hosts as threads over the loopback: all agree, or all are told who differs or is missing."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from thinwire.cluster import handshake
from thinwire.errors import ThinwireError

HERE = "127.0.0.1"


def free_port():
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        return listener.getsockname()[1]


def meet(facts, come=None, timeout_s=20.0, port=None):
    """What each host that comes gets: None, or the sentence that it is refused with."""
    port = port or free_port()

    def one(host):
        try:
            return handshake.agree(HERE, port, len(facts), host, facts[host], timeout_s)
        except ThinwireError as error:
            return str(error)

    come = range(len(facts)) if come is None else come
    with ThreadPoolExecutor(len(facts)) as pool:
        return list(pool.map(one, come))


def test_equal_hosts_go_on_and_the_port_is_free_again():
    port = free_port()
    for _ in range(2):
        assert meet([{"jax": "1", "split": (1, 2)}] * 3, port=port) == [None] * 3
    socket.create_server((HERE, port)).close()


def test_a_host_that_differs_is_named_to_all():
    answers = meet([{"jax": "1", "model": "a"}, {"jax": "1", "model": "a"}, {"jax": "2", "model": "a"}])
    assert len(set(answers)) == 1
    assert 'host 2 has jax "2" and host 0 has "1"' in answers[0]
    assert "host 1" not in answers[0]
    assert "model" not in answers[0].partition("Give")[0]


def test_a_fact_that_only_one_side_has_differs():
    assert 'host 1 has strategy "ring" and host 0 has null' in meet([{}, {"strategy": "ring"}])[0]


def test_hosts_that_never_come_are_named_to_those_that_did():
    answers = meet([{}] * 4, come=[0, 2], timeout_s=1.0)
    assert len(set(answers)) == 1
    assert answers[0].startswith("Hosts 1, 3 have not come within 1 s")


def test_without_host_0_the_others_do_not_wait_for_ever():
    (answer,) = meet([{}] * 2, come=[1], timeout_s=0.5)
    assert answer.startswith("Host 1 got no answer from host 0")


def test_a_port_in_use_is_told():
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ThinwireError, match=f"cannot listen at {HERE}:{port}"):
            handshake.agree(HERE, port, 2, 0, {}, 5.0)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"host": 7, "facts": {}}\n',
        b'{"host": true, "facts": {}}\n',
        b'{"host": 1}\n',
        b"[" * 60_000 + b"\n",
        b'{"host": 1, "facts": {"x": "' + b"x" * 70_000 + b'"}}\n',
        b"",
    ],
)
def test_strangers_are_no_hosts(line):
    port = free_port()
    first = threading.Event()
    outcome = []

    def coordinate():
        first.set()
        outcome.append(handshake.agree(HERE, port, 2, 0, {"a": 1}, 20.0))

    thread = threading.Thread(target=coordinate)
    thread.start()
    first.wait()
    with connect(port) as stranger:
        stranger.sendall(line)
        handshake.agree(HERE, port, 2, 1, {"a": 1}, 20.0)
    thread.join(20)
    assert outcome == [None]


def connect(port):
    while True:
        try:
            return socket.create_connection((HERE, port), timeout=20)
        except ConnectionRefusedError:
            continue
