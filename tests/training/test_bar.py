"""The words beside the bar of a training run."""

from thinwire.training.bar import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pace_and_time_left():
    clock = Clock()
    pace = Pace(1000, clock=clock)
    clock.now += 50
    assert pace.told(100, 2.31449) == "loss 2.314, 2 steps/s, 0:07:30 left"


def test_a_resumed_run_counts_its_own_steps():
    clock = Clock()
    pace = Pace(1000, done=900, clock=clock)
    clock.now += 100
    assert pace.told(905, 1.0) == "loss 1, 20 s/step, 0:31:40 left"


def test_only_the_last_tellings_count():
    clock = Clock()
    pace = Pace(10_000, clock=clock, over=3)
    clock.now += 1000  # the first step compiles
    pace.told(1, 9.0)
    for step in (2, 3, 4):
        clock.now += 1
        words = pace.told(step, 9.0)
    assert words == "loss 9, 1 steps/s, 2:46:36 left"


def test_nothing_is_said_of_a_pace_that_is_not_known():
    assert Pace(10, clock=Clock()).told(1, 0.5) == "loss 0.5"
    clock = Clock()
    pace = Pace(10, clock=clock)
    clock.now += 1
    assert pace.told(0, 0.5) == "loss 0.5"
