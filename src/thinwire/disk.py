"""What a run needs of the disk: a file that is whole, a lock on a folder, a checkpoint library that is quiet."""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LEVELS: list[int] = []  # the log's level when each of those came who want it quiet now
_LEVELS_LOCK = threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the checkpoint library's log, tracebacks included, from the user, who gets one sentence from us.

    Several threads may want this at once: the log speaks again when the last of them is done.
    """
    _drop_late_callbacks()
    logger = logging.getLogger("absl")
    with _LEVELS_LOCK:
        _LEVELS.append(logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _LEVELS_LOCK:
            level = _LEVELS.pop()
            if not _LEVELS:
                logger.setLevel(level)


class _UnlessLate:
    """Tells of exceptions that nobody can catch as before, but for those of late callbacks."""

    def __init__(self, tell: Callable[[Any], object]):
        self._tell = tell

    def __call__(self, unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        if not (late and unraisable.object is None):
            self._tell(unraisable)


def _drop_late_callbacks() -> None:
    """From now on: when one array of many fails, the others' callbacks come late and find their event loop closed."""
    if not isinstance(sys.unraisablehook, _UnlessLate):
        sys.unraisablehook = _UnlessLate(sys.unraisablehook)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, never half of it.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def take(path: Path) -> int | None:
    """Takes the lock that a file stands for; it is given back when the handle is closed or the process ends, however.

    Returns:
        The open handle; None where another has the lock.

    Raises:
        OSError: the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl
    except ImportError:  # Windows: two runs in one folder are not noticed
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # some network disks know no locks
        return handle
    return handle
