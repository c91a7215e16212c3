"""A simple latency model, stated in full: arithmetic at one rate, bytes at the link's rate, a delay a message."""

import dataclasses
from collections.abc import Sequence

from thinwire.strategies.base import Traffic

DESCRIPTION = (
    "latency = rounds x message latency + max over devices of (FLOPs / rate + 8 x bytes sent / bandwidth); a round is "
    "one message to each peer; nothing overlaps; every device has the rate that the single device showed in this run"
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the model assumes of every device and link."""

    flops_per_second: float
    message_latency_s: float = 0.0005


def predict_latency(flops: Sequence[float], traffic: Traffic, machine: Machine, mbps: float | int) -> float:
    """Seconds of one prefill over links of ``mbps`` megabits a second a device, each way."""
    terms = zip(flops, traffic.bytes_by_device, strict=True)
    slowest = max(f / machine.flops_per_second + 8e-6 * sent / mbps for f, sent in terms)
    return slowest + traffic.rounds * machine.message_latency_s
