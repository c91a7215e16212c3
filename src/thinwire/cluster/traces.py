"""Bandwidth that changes while things run: a trace is a series of (seconds since the start, Mbps), perhaps endless."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thinwire.cluster.specs import check_rate, read_lines
from thinwire.errors import ThinwireError

Step = tuple[float | int, float | int]  # seconds, Mbps


def read_trace(path: str | Path) -> list[Step]:
    """A trace from a CSV file of rows `seconds,mbps`, in ascending order; a first line of words is passed over.

    Raises:
        ThinwireError: naming the line that is wrong.
    """
    steps: list[Step] = []
    for number, line in enumerate(read_lines(path, "trace"), 1):
        if not line.strip() or (number == 1 and _is_heading(line)):
            continue
        try:
            seconds, mbps = map(float, line.split(","))
        except ValueError:
            raise ThinwireError(f"{path}, line {number}: {line!r} is not `seconds,mbps`, as `2.5,10`.") from None
        try:
            check_rate(mbps)
        except ThinwireError as error:
            raise ThinwireError(f"{path}, line {number}: {error}") from None
        last = steps[-1][0] if steps else 0.0
        if not last <= seconds < float("inf"):
            raise ThinwireError(f"{path}, line {number}: {seconds:g} s comes after {last:g} s; put the rows in order.")
        steps.append((seconds, mbps))
    if not steps:
        raise ThinwireError(f"The trace {path} has no rows: give at least one of `seconds,mbps`.")
    return steps


def _is_heading(line: str) -> bool:
    try:
        float(line.partition(",")[0])  # as 0.0e+00
    except ValueError:
        return any(letter.isalpha() for letter in line)
    return False


def markov_trace(good_mbps: float | int, bad_mbps: float | int, dwell_s: float | int, seed: int = 0) -> Iterator[Step]:
    """An endless trace that is good, then bad, then good …, each for an exponentially distributed time.

    Args:
        good_mbps: rate to begin with, 10⁶ bits a second.
        bad_mbps: the other.
        dwell_s: mean seconds in each.
        seed: the same seed makes the same trace.
    """
    draw, now = random.Random(seed), 0.0
    for mbps in itertools.cycle((good_mbps, bad_mbps)):
        yield now, mbps
        now += draw.expovariate(1 / dwell_s)


def parse_markov(text: str, seed: int = 0) -> Iterator[Step]:
    """A trace from `GOOD:BAD:SECONDS`, as `100:10:2`: 100 Mbps or 10 Mbps, for 2 s each in the mean."""
    try:
        good, bad, dwell = map(float, text.split(":"))
    except ValueError:
        raise ThinwireError(f"--markov is {text!r}; give GOOD:BAD:SECONDS, as 100:10:2.") from None
    check_rate(good)
    check_rate(bad)
    if not 0.01 <= dwell < float("inf"):
        raise ThinwireError(f"--markov {text} stays {dwell:g} s in each state; give 0.01 or more.")
    return markov_trace(good, bad, dwell, seed)


@contextmanager
def following(trace: Iterable[Step], set_rate: Callable[[float], None]) -> Iterator[None]:
    """While inside, a thread calls `set_rate(mbps)` at each step's time; the last rate holds after the trace's end.

    Raises:
        ThinwireError: at the end, if a rate could not be set.
    """
    stop, errors = threading.Event(), []

    def follow() -> None:
        begin = time.monotonic()
        for seconds, mbps in trace:
            if stop.wait(max(0.0, seconds - (time.monotonic() - begin))):
                return
            try:
                set_rate(mbps)
            except ThinwireError as error:
                errors.append(error)
                return

    thread = threading.Thread(target=follow, name="bandwidth trace", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
