"""Being told to stop: SIGTERM and SIGHUP unwind like Ctrl-C does, and what is being taken down is taken down whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(SystemExit):
    """A signal told the program to stop; its exit code is the shell's for it."""


@contextmanager
def stopping_unwinds() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP raise `Stopped` where they would have killed without a word."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    ours = [number for number in _STOPS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def held_back() -> Iterator[None]:
    """While inside, Ctrl-C waits: for imports, in the midst of which some libraries swallow it or crash."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """While inside, signals to stop are ignored: for a second or two in which things are cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
