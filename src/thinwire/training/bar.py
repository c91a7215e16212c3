"""The words beside a training run's bar: its loss, its pace, the time that is left."""

import time
from collections import deque
from collections.abc import Callable


class Pace:
    """How fast a run goes of late, not since it began: the first step compiles, and other programs come and go.

    Args:
        steps: of the whole run.
        done: of them, before now.
        clock: seconds.
        over: how many of the last tellings count.
    """

    def __init__(self, steps: int, done: int = 0, clock: Callable[[], float] = time.monotonic, over: int = 20):
        self._steps, self._clock = steps, clock
        self._seen: deque[tuple[int, float]] = deque([(done, clock())], maxlen=over + 1)

    def told(self, step: int, loss: float) -> str:
        """The words once ``step`` steps are done, such as ``loss 2.314, 1.7 steps/s, 0:12:40 left``."""
        self._seen.append((step, self._clock()))
        (first, since), (last, now) = self._seen[0], self._seen[-1]
        words = f"loss {loss:.4g}"
        if last <= first or now <= since:
            return words
        rate = (last - first) / (now - since)
        each = f"{rate:.3g} steps/s" if rate >= 0.1 else f"{1 / rate:.3g} s/step"
        return f"{words}, {each}, {_duration((self._steps - step) / rate)} left"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
