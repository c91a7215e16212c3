"""What may happen to links and hosts in the middle of a pass; all of it is undone afterwards."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from thinwire.benchmark.plan import Plan
from thinwire.cluster.emulated import Cluster

LESS_RATE = 10.0
LESS_CPU = 2.0
LOSS = 0.05


# Around a pass; gives what is to be called when the pass begins, if that matters.
Disturbing = contextlib.AbstractContextManager[Callable[[], None] | None]


@contextlib.contextmanager
def drop(cluster: Cluster, plan: Plan, mbps: float, steady_s: float) -> Iterator[Callable[[], None]]:
    """All links fall to a tenth of their rate when half of a steady pass's time is over."""
    del plan
    begun, over = threading.Event(), threading.Event()

    def fall() -> None:
        begun.wait()
        if not over.wait(steady_s / 2):
            cluster.set_rate(mbps / LESS_RATE)

    with ThreadPoolExecutor(1) as pool:
        falling = pool.submit(fall)
        try:
            yield begun.set
        finally:
            over.set()
            begun.set()  # also where it never began
            falling.result()
            cluster.set_rate(mbps)


@contextlib.contextmanager
def slow(cluster: Cluster, plan: Plan, mbps: float, steady_s: float) -> Iterator[None]:
    """The last host has half of its share of the CPU."""
    del mbps, steady_s
    last, share = plan.hosts - 1, plan.cpu[-1]
    cluster.set_cpu(share / LESS_CPU, last)
    try:
        yield
    finally:
        cluster.set_cpu(share, last)


@contextlib.contextmanager
def lose(cluster: Cluster, plan: Plan, mbps: float, steady_s: float) -> Iterator[None]:
    """Every host loses one in twenty of the packets that arrive; TCP sends them again."""
    del mbps, steady_s
    cluster.set_loss(LOSS)
    try:
        yield
    finally:
        for host in range(plan.hosts):
            cluster.set_loss(plan.loss[host] if plan.loss else 0.0, host)


# Cluster, plan, rate of the links and seconds of a pass when nothing happens -> what surrounds a pass.
Disturbance = Callable[[Cluster, Plan, float, float], Disturbing]
DISTURBANCES: dict[str, Disturbance] = {"drop": drop, "lose": lose, "slow": slow}
