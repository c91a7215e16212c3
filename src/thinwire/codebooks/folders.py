"""A folder of several files that appears whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes ``path`` when the block ends well, flushed to the disk; else nothing is left of it.

    What was at ``path`` stays until then. It is the caller's to see that this may be replaced.

    Raises:
        OSError: the place cannot be written.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".saving", dir=path.parent))
    try:
        fresh.chmod(0o755)  # mkdtemp makes private folders
        yield fresh
        _flush(fresh)
        _swap_in(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_room(folder: Path, needed: int) -> None:
    """Raises OSError where the disk that holds ``folder`` has fewer than ``needed`` bytes left."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def reason(error: BaseException) -> str:
    """The system's words for why a write failed, also where a library has wrapped its error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        if code := re.search(r"(?:os_error_code='|os error |Os { code: )(\d+)", str(cause)):
            return os.strerror(int(code.group(1)))
        cause = cause.__cause__ or cause.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flush(folder: Path) -> None:
    """Makes sure that a folder and all in it are on the disk."""
    for root, _, files in os.walk(folder):
        for path in [*(Path(root, file) for file in files), Path(root)]:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _swap_in(fresh: Path, path: Path) -> None:
    """Renames ``fresh`` to ``path``; what was there is put aside first, and back again if that fails."""
    aside = fresh.with_suffix(".old")
    replaces = path.exists()
    if replaces:
        path.rename(aside)
    try:
        fresh.rename(path)
    except OSError:
        if replaces:
            aside.rename(path)
        raise
    with contextlib.suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    shutil.rmtree(aside, ignore_errors=True)
