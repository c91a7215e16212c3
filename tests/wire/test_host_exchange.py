"""What XLA is told to do between sending and receiving, on hosts that are threads with a virtual device each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joined_hosts import SECONDS, joined
from thinwire.wire import host_exchange
from thinwire.wire.streams import streaming

HOSTS = 3
EVERYBODY = np.ones((HOSTS, HOSTS), bool)


def everywhere(found, pool, function, *arrays_NX):
    """``function(host's streams, host's arrays)``, compiled, on every host at once."""

    def on_host(one):
        own = jax.device_put([x_NX[one.host] for x_NX in arrays_NX], jax.devices()[one.host])
        with streaming(one):
            return np.asarray(jax.jit(functools.partial(function, one))(*own))

    return [run.result(SECONDS) for run in [pool.submit(on_host, one) for one in found]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_all_gather_all_to_all_and_ring_shift(dtype):
    mine_NX = np.arange(HOSTS * 6).astype(dtype).reshape(HOSTS, 2, 3)
    mine_NNX = np.stack([mine_NX + 20 * n for n in range(HOSTS)]).astype(dtype)
    with joined(HOSTS) as (found, pool):
        run = functools.partial(everywhere, found, pool)
        for seen in run(lambda one, x: host_exchange.all_gather(one, x, EVERYBODY).wait(), mine_NX):
            assert seen.dtype == dtype
            np.testing.assert_array_equal(seen, mine_NX)
        for host, seen in enumerate(run(lambda one, x: host_exchange.all_to_all(one, x).wait(), mine_NNX)):
            assert seen.dtype == dtype
            np.testing.assert_array_equal(seen, mine_NNX[:, host])
        for host, seen in enumerate(run(lambda one, x: host_exchange.ring_shift(one, x).wait(), mine_NX)):
            assert seen.dtype == dtype
            np.testing.assert_array_equal(seen, mine_NX[host - 1])


def test_packets_that_nobody_looks_at_stay():
    looks_NN = np.tril(EVERYBODY)
    mine_NX = np.arange(HOSTS * 5, dtype=np.float32).reshape(HOSTS, 5) + 1
    with joined(HOSTS) as (found, pool):
        gathered = everywhere(found, pool, lambda one, x: host_exchange.all_gather(one, x, looks_NN).wait(), mine_NX)
        for host, seen in enumerate(gathered):
            np.testing.assert_array_equal(seen, np.where(looks_NN[host][:, None], mine_NX, 0))
        assert [one.sent_bytes for one in found] == [2 * 20, 20, 0]


@pytest.mark.parametrize("rounds", [1, 3])
def test_what_is_done_meanwhile_comes_between_sending_and_receiving(rounds, monkeypatch):
    """Also in a loop: what every host does there is told by a callback, in the order in which it happens."""
    seen = {n: [] for n in range(HOSTS)}

    def note(one, what, x):
        def tell(x):
            seen[one.host].append(what)
            return x

        return jax.pure_callback(tell, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def work(one, x):
        def once(x, _):
            started = host_exchange.ring_shift(one, note(one, "before", x))
            done = note(one, "meanwhile", started.meanwhile(x) * 2)
            return note(one, "after", started.wait(done)) + done, None

        return jax.lax.scan(once, x, None, length=rounds)[0]

    x_NX = np.arange(HOSTS * 2, dtype=np.float32).reshape(HOSTS, 2)
    with joined(HOSTS) as (found, pool):
        for one in found:
            one.send = functools.partial(_noted, seen[one.host], "sent", one.send)
            one.receive = functools.partial(_noted, seen[one.host], "received", one.receive)
        results = everywhere(found, pool, work, x_NX)
    for host in range(HOSTS):
        assert seen[host] == ["before", "sent", "meanwhile", "received", "after"] * rounds
    for _ in range(rounds):
        x_NX = np.roll(x_NX, 1, axis=0) + 2 * x_NX
    np.testing.assert_allclose(results, x_NX)


def test_who_sends_the_same_whatever_it_computes_waits_when_told():
    """Nothing else would keep XLA from waiting for the last exchange first."""
    seen = {n: [] for n in range(HOSTS)}

    def work(one, x):
        for step in range(6):

            def tell(x, step=step):
                seen[one.host].append(f"computed {step}")
                return x

            x = jax.pure_callback(tell, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
            way = host_exchange.all_gather(one, jnp.full(2, 10 * step + one.host, jnp.float32), EVERYBODY)
            x = x + way.wait(x).sum(axis=0)
        return x

    x_NX = np.zeros((HOSTS, 2), np.float32)
    with joined(HOSTS) as (found, pool):
        for one in found:
            one.receive = functools.partial(_noted_number, seen[one.host], one.receive)
        results = everywhere(found, pool, work, x_NX)
    for host in range(HOSTS):
        assert seen[host] == [line for step in range(6) for line in (f"computed {step}", f"received {step}")]
        np.testing.assert_allclose(results[host], HOSTS * 150 + 6 * sum(range(HOSTS)) + np.zeros(2))


def test_without_anything_to_do_there_is_one_callback():
    x_X = jax.ShapeDtypeStruct((4,), np.float32)
    with joined(2) as (found, _), streaming(found[0]):
        callbacks = []
        for work in (lambda way, x: x, lambda way, x: way.meanwhile(x)):

            def exchanged(x, work=work):
                way = host_exchange.ring_shift(found[0], x)
                return way.wait(work(way, x))

            callbacks.append(str(jax.make_jaxpr(exchanged)(x_X)).count("host_call["))
    assert callbacks == [1, 2]


def _noted_number(seen, function, others, size, number, identity):
    seen.append(f"received {number}")
    return function(others, size, number, identity)


def _noted(seen, what, function, *args):
    seen.append(what)
    return function(*args)
