"""The latency model, by hand."""

import pytest

import tiny
from thinwire.planning.latency import Machine, predict_latency
from thinwire.strategies import parse_strategy
from thinwire.strategies.base import Traffic
from thinwire.strategies.work import traffic_of

MACHINE = Machine(flops_per_second=1e9, message_latency_s=0.01)


def test_one_case_by_hand():
    # 0.5 s of arithmetic; 1 MB over 8 Mbps is a second; four rounds of 10 ms.
    traffic = Traffic((1_000_000, 1_000_000), (4, 4), rounds=4)
    assert predict_latency((5e8, 5e8), traffic, MACHINE, 8.0) == pytest.approx(0.5 + 1.0 + 0.04)


def test_the_slowest_device_decides_by_arithmetic_and_bytes_together():
    traffic = Traffic((0, 2_000_000, 1_000_000), (0, 1, 1), rounds=1)
    assert predict_latency((2.5e9, 1e9, 1e9), traffic, MACHINE, 8.0) == pytest.approx(3.0 + 0.01)
    assert predict_latency((2.5e9, 1e9, 1e9), traffic, MACHINE, 16.0) == pytest.approx(2.5 + 0.01)


def test_one_device_is_its_arithmetic_whatever_the_link():
    assert {predict_latency((2e9,), Traffic((0,), (0,), 0), MACHINE, mbps) for mbps in (1, 1000)} == {2.0}


def test_a_faster_link_tends_to_arithmetic_and_rounds():
    traffic = Traffic((10**6,) * 2, (2, 2), rounds=2)
    seconds = [predict_latency((1e9, 1e9), traffic, MACHINE, mbps) for mbps in (1, 10, 100, 1e9)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == pytest.approx(1.02)


def test_packets_that_travel_while_devices_compute_are_waited_for_once():
    # Device 0 is done after 0.5 s and keeps its link busy for 1; the last of four packets and its round come behind.
    traffic = Traffic((1_000_000, 0), (4, 0), rounds=4, ahead=True)
    assert predict_latency((5e8, 5e8), traffic, MACHINE, 8.0) == pytest.approx(1.0 + 0.25 + 0.01)
    assert predict_latency((5e8, 2e9), traffic, MACHINE, 80.0) == pytest.approx(2.0 + 0.025 + 0.01)


@pytest.mark.parametrize(
    ("spec", "ahead", "sent"),
    [
        ("sequence:float32:site=kv", True, (2, 1, 0)),
        ("sequence:float32:site=kv:layout=zigzag", False, (2, 2, 2)),
        ("ring:float32:site=kv", False, (2, 2, 2)),
    ],
)
def test_who_sends_to_whom_between_hosts(spec, ahead, sent):
    """In units of one payload; through XLA's gathers all send to all."""
    strategy, dims = parse_strategy(spec), tiny.dims()
    streamed, gathered = (traffic_of(strategy, dims, 24, 3, streams=streams) for streams in (True, False))
    assert streamed.ahead == ahead
    assert not gathered.ahead
    payload = max(gathered.bytes_by_device) // 2
    assert streamed.bytes_by_device == tuple(n * payload for n in sent)
    assert gathered.bytes_by_device == (2 * payload,) * 3
    assert streamed.rounds == gathered.rounds
