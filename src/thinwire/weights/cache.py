"""Where downloaded files live, and how a file gets there whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from thinwire.errors import ThinwireError


def cache_dir() -> Path:
    """The cache folder, made if absent: ``$THINWIRE_CACHE``, or ``thinwire`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        ThinwireError: the folder cannot be made.
    """
    override = os.environ.get("THINWIRE_CACHE")
    if override:
        path = Path(override).expanduser().absolute()
    else:
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG rule: a relative path is to be ignored.
        path = (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "thinwire"
    with explain_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` met while writing below ``path`` into one sentence with the way out."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            why = f"the disk that holds {path} is full"
            way = "free some space"
        else:
            why = f"cannot write to {path} ({e.strerror or e})"
            way = "make it writable"
        raise ThinwireError(f"{why}: {way}, or set THINWIRE_CACHE to a folder on another disk") from e


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at ``path`` only when the block ends well, complete and flushed to the disk.

    Raises:
        ThinwireError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    with explain_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(fd, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            part.chmod(0o644)  # mkstemp makes private files; a cache may be shared
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` (a file beside it) against other processes; waits until it is free.

    The operating system drops the lock when the process dies, so no lock is ever stale.
    """
    lock = path.with_name(f".{path.name}.lock")
    with explain_os_errors(path.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        f = lock.open("a+b")
    with f:
        _lock(f)
        yield  # closing the file unlocks it


def _lock(f: IO[bytes]) -> None:
    """Lock an open file, waiting as long as it takes."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        f.seek(0)
        while True:
            with contextlib.suppress(OSError):  # gives up after ten seconds: ask again
                msvcrt.locking(f.fileno(), msvcrt.LK_LOCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
                return
    else:
        # Some network disks know no locks: two fetches at once then waste work, but the rename keeps files whole.
        with contextlib.suppress(OSError):
            fcntl.flock(f, fcntl.LOCK_EX)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        ThinwireError: the file cannot be read.
    """
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e


def stamp_file(path: Path, sha256: str) -> None:
    """Remember beside ``path`` that its present bytes have this hash."""
    stat = path.stat()
    stamp = {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with atomic_write(_stamp_path(path)) as f:
        f.write(json.dumps(stamp).encode())


def is_intact(path: Path, sha256: str, size: int) -> bool:
    """Whether ``path`` holds ``size`` bytes with this hash; hashed only if it changed since it was stamped."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    stat = path.stat()
    try:
        stamp = json.loads(_stamp_path(path).read_text())
    except (OSError, ValueError):
        stamp = None
    if stamp == {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}:
        return True
    if sha256_file(path) != sha256:
        return False
    with contextlib.suppress(ThinwireError):  # a cache that is read-only works too: it is hashed each time
        stamp_file(path, sha256)
    return True


def _stamp_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.stamp")
