"""The latency model, stated in full: local work, bytes at the link's rate, a delay for every message.

How long work takes is said by a machine: a hypothetical one of one rate (``Machine``), whose work is FLOPs, or one that
was measured piece by piece (``thinwire.planning.profile.Profile``), whose work is counted in rows and pairs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from thinwire.strategies.base import Traffic

DESCRIPTION = (
    "latency = rounds x message latency + max over devices of (FLOPs / rate + 8 x bytes sent / bandwidth); a round is "
    "one message to each peer; nothing overlaps; every device has the rate that the single device showed in this run"
)

WorkT = TypeVar("WorkT", contravariant=True)


@runtime_checkable
class Device(Protocol[WorkT]):
    """What the model asks of a device and its link."""

    def local_s(self, work: WorkT) -> float:
        """Seconds of local work."""
        ...

    def wire_s(self, work: WorkT, sent: float | int, mbps: float | int) -> float:
        """Seconds for which so many bytes keep its link busy."""
        ...

    def wait_s(self, work: WorkT, messages: int, rounds: int) -> float:
        """Seconds that messages and rounds take however short they are."""
        ...


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device of one rate, whatever it computes; work is in FLOPs."""

    flops_per_second: float
    message_latency_s: float = 0.0005

    def local_s(self, work: float | int) -> float:
        """Seconds of so many FLOPs."""
        return work / self.flops_per_second

    def wire_s(self, work: float | int, sent: float | int, mbps: float | int) -> float:
        """Seconds of so many bytes at the full rate."""
        del work
        return 8e-6 * sent / mbps

    def wait_s(self, work: float | int, messages: int, rounds: int) -> float:
        """Seconds of the rounds; messages to several peers leave together."""
        del work, messages
        return rounds * self.message_latency_s


def predict_latency(
    work: Sequence[WorkT], traffic: Traffic, machine: Device[WorkT] | Sequence[Device[WorkT]], mbps: float | int
) -> float:
    """Seconds of one prefill over links of ``mbps`` megabits a second a device, each way.

    Args:
        work: of each device: FLOPs for a ``Machine``, ``thinwire.strategies.work.work_of`` for a ``Profile``.
        traffic: of the whole pass.
        machine: what every device is, or each of them.
    """
    slowest, waits_s = waiting(work, traffic, machine, mbps)
    machines = machine if isinstance(machine, Sequence) else [machine] * len(work)
    return machines[slowest].local_s(work[slowest]) + sum(waits_s)


def waiting(
    work: Sequence[WorkT], traffic: Traffic, machine: Device[WorkT] | Sequence[Device[WorkT]], mbps: float | int
) -> tuple[int, tuple[float, float]]:
    """The device that is done last, and the seconds that it waits beside its local work: for bytes, for messages.

    Where packets travel while devices compute (``Traffic.ahead``), it waits for what its link takes longer than its
    work, and for the last packet.
    """
    machines = machine if isinstance(machine, Sequence) else [machine] * len(work)
    terms = zip(machines, work, traffic.bytes_by_device, strict=True)
    each = [(one.local_s(of_one), one.wire_s(of_one, sent, mbps)) for one, of_one, sent in terms]
    messages = max(traffic.messages_by_device)
    message_s = max(one.wait_s(of_one, messages, traffic.rounds) for one, of_one in zip(machines, work, strict=True))
    if not (traffic.ahead and traffic.rounds):
        slowest = max(range(len(each)), key=lambda n: sum(each[n]))
        return slowest, (each[slowest][1], message_s)
    slowest = max(range(len(each)), key=lambda n: max(each[n]))
    local_s, wire_s = each[slowest]
    last_s = max(wire_s for _, wire_s in each) / traffic.rounds
    return slowest, (max(0.0, wire_s - local_s) + last_s, message_s / traffic.rounds)
