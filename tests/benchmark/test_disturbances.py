"""What happens to links in the middle of a pass, on a stand-in for the cluster."""

import contextlib
import threading
import time

from thinwire.benchmark import disturbances
from thinwire.benchmark.plan import Plan
from thinwire.cluster.emulated import Cluster

STEADY_S = 0.4
PLAN = object.__new__(Plan)  # nothing of it matters here


class Links(Cluster):
    """Notes the rates that are set."""

    def __init__(self):
        self.rates, self.fell_at, self.fell = [], 0.0, threading.Event()

    def set_rate(self, mbps):
        self.rates.append(mbps)
        self.fell_at = time.monotonic()
        self.fell.set()


def test_links_fall_half_a_pass_after_it_has_begun():
    links = Links()
    with disturbances.drop(links, PLAN, 100.0, STEADY_S) as begun:
        assert not links.fell.wait(STEADY_S)  # however long what comes before the pass takes
        begin = time.monotonic()
        begun()
        assert links.fell.wait(30)
        assert links.fell_at - begin >= STEADY_S / 2
        assert links.rates == [10.0]
    assert links.rates == [10.0, 100.0]


def test_links_are_as_before_where_the_pass_ends_sooner_or_never_begins():
    for begins in (True, False):
        links = Links()
        with contextlib.suppress(ValueError), disturbances.drop(links, PLAN, 100.0, 60.0) as begun:
            if begins:
                begun()
            raise ValueError("the pass failed")
        assert links.rates == [100.0]
