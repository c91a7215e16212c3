"""What every subcommand prints with: results on stdout, progress and errors on stderr.

Colour follows the terminal and NO_COLOR. Where stderr is no terminal (a log, a pipe) progress is a plain
line now and then.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType

PLAIN_EVERY_S = 10.0  # between two plain lines of progress
WIDTH_WITHOUT_TERMINAL = 100


def stdout() -> Console:
    """The console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress, remarks and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream is not None and stream.isatty()
    width = None if terminal or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)


def width() -> int:
    """Columns that results may take."""
    return stdout().width


def show(*results: RenderableType) -> None:
    """Print tables and other rich things to stdout."""
    stdout().print(*results, sep="\n")


def say(text: str = "") -> None:
    """Print a line of text to stdout as it is: no markup, no wrapping."""
    print(text)


def remark(text: str) -> None:
    """Print a line of text to stderr as it is."""
    print(f"{text}\n", end="", file=sys.stderr, flush=True)  # in one piece: several threads print


def fail(error: BaseException | str) -> None:
    """Print `thinwire: <sentence>` to stderr, in one line whatever the message holds."""
    remark(f"thinwire: {' '.join(str(error).split()) or type(error).__name__}")


class Bar(Protocol):
    """A running piece of work."""

    def advance(self, steps: int = 1) -> None:
        """So many more steps are done."""
        ...

    def update(self, done: int, total: int | None = None) -> None:
        """So many steps are done, of so many: fits callbacks of (bytes so far, bytes in all)."""
        ...

    def describe(self, what: str) -> None:
        """This is being worked on now."""
        ...


@contextmanager
def progress(description: str, total: int | None = None, unit: str = "") -> Iterator[Bar]:
    """Show how far a piece of work is, on stderr; `unit="bytes"` counts in MB.

    Example:
        with progress("calibrating", total=30) as bar:
            for layer in layers:
                ...
                bar.advance()
    """
    console = stderr()
    if console.is_terminal and not console.is_dumb_terminal:
        with _animated(console, description, total, unit) as bar:
            yield bar
        return
    bar = _PlainBar(description, total, unit)
    yield bar
    bar.end()


@contextmanager
def _animated(console: Console, description: str, total: int | None, unit: str) -> Iterator[Bar]:
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn  # isort: skip

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = TextColumn("{task.description}", markup=False), BarColumn(), count, TimeElapsedColumn()
    with Progress(*columns, TextColumn("left", style="dim"), TimeRemainingColumn(), console=console) as live:
        yield _RichBar(live, live.add_task(description, total=total), description)


class _RichBar:
    def __init__(self, live, task, description: str):
        self._live, self._task, self._description = live, task, description

    def advance(self, steps: int = 1) -> None:
        self._live.advance(self._task, steps)

    def update(self, done: int, total: int | None = None) -> None:
        self._live.update(self._task, completed=done, **({} if total is None else {"total": total}))

    def describe(self, what: str) -> None:
        self._live.update(self._task, description=f"{self._description}: {what}")


class _PlainBar:
    """A line when it begins to matter, one every few seconds, and one at the end with the time it took."""

    def __init__(self, description: str, total: int | None, unit: str):
        self._description, self._total, self._unit, self._done = description, total, unit, 0
        self._begin = self._last = time.monotonic()
        self._what = ""

    def advance(self, steps: int = 1) -> None:
        self.update(self._done + steps)

    def update(self, done: int, total: int | None = None) -> None:
        self._done = done
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            remark(f"{self._description}{self._what}: {self._count()}, {now - self._begin:.0f} s")

    def describe(self, what: str) -> None:
        self._what = f" ({what.strip()})"

    def end(self) -> None:
        remark(f"{self._description}: done in {time.monotonic() - self._begin:.1f} s")

    def _count(self) -> str:
        if self._unit == "bytes":
            done = f"{self._done / 1e6:.1f} MB"
            return done if self._total is None else f"{done} of {self._total / 1e6:.1f} MB"
        return f"{self._done}" if self._total is None else f"{self._done} of {self._total}"
