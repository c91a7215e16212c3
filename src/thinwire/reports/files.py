"""Writing a result so that a reader sees the old file or the whole new one, never half of it."""

import os
import tempfile
from pathlib import Path

from thinwire.disk import write_whole
from thinwire.errors import ThinwireError


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path` atomically (temporary file beside it, then rename); folders are made as needed."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ThinwireError(f"cannot write {path}: it is a folder; name a file in it")
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing to rename over
            path.write_bytes(content)
            return path
        target = path.resolve()  # through a symbolic link, which stays
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ThinwireError(f"cannot write {path}: {reason}; free some space or name another place") from error
    return path


def check_writable(path: str | Path) -> None:
    """Raises ThinwireError where `path` could not be written; makes nothing. To be asked before hours of work."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ThinwireError(f"cannot write {path}: it is a folder; name a file in it")
        if path.exists() and not path.is_file():
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ThinwireError(f"cannot write {path}: {reason}; name another place") from error
    check_folder(path.resolve().parent, path)


def check_folder(folder: str | Path, wanted: str | Path | None = None) -> None:
    """Raises ThinwireError where files could not be made in `folder`, which need not be there yet; leaves nothing."""
    folder = Path(folder).absolute()
    shown = folder if wanted is None else wanted
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir():
            raise ThinwireError(f"cannot write {shown}: {there} is a file, not a folder; name another place")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ThinwireError(f"cannot write {shown}: {there} is not writable; name another place")
        with tempfile.TemporaryFile(dir=there):  # root may write everywhere, but not into /proc
            pass
    except OSError as error:
        raise ThinwireError(f"cannot write {shown}: {error.strerror or error}; name another place") from error


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8 to `path` atomically."""
    return write_bytes(path, text.encode("utf-8", errors="replace"))
