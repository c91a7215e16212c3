"""Reads one file out of a Debian package: an ``ar`` archive that holds, beside small members, a tarball of the files.

Format: deb(5) and ar(5).
"""

import contextlib
import io
import struct
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from thinwire.errors import ThinwireError

_MAGIC = b"!<arch>\n"
_HEADER = struct.Struct("16s12s6s6s8s10s2s")  # name, time, owner, group, mode, size, end
_END = b"`\n"


@contextlib.contextmanager
def open_member(package: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of a package, by its path from the root without a leading slash.

    Raises:
        KeyError: the package holds no such file.
        tarfile.TarError: the package is damaged.
        ThinwireError: it is compressed in a way that this Python cannot read.
    """
    name, tarball = _data(package)
    if name.endswith(".zst") and sys.version_info < (3, 14):
        raise _unreadable(package, name, "use Python 3.14 or newer")
    try:
        # As a stream, from front to back: going back would mean to decompress all of it again.
        tar = tarfile.open(fileobj=io.BytesIO(tarball), mode="r|*")  # noqa: SIM115
    except tarfile.CompressionError as e:
        raise _unreadable(package, name, "use a Python that was built with that compression") from e
    with tar:
        for info in tar:
            if info.isreg() and info.name.removeprefix("./") == member:
                content = tar.extractfile(info)
                if content is not None:
                    yield content
                    return
    raise KeyError(member)


def _data(package: Path) -> tuple[str, bytes]:
    """Name and bytes of the member that holds the files."""
    with package.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise tarfile.ReadError("it is no ar archive")
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            name, _, _, _, _, digits, end = _HEADER.unpack(header)
            if end != _END or not digits.strip().isdigit():
                raise tarfile.ReadError("a header of its ar archive is broken")
            size = int(digits)
            title = name.decode("ascii", "replace").rstrip().rstrip("/")
            if title.startswith("data.tar"):
                content = file.read(size)
                if len(content) < size:
                    raise tarfile.ReadError(f"{title} ends after {len(content)} of {size} bytes")
                return title, content
            file.seek(size + size % 2, io.SEEK_CUR)  # members begin at even places
    raise tarfile.ReadError("it holds no data.tar")


def _unreadable(package: Path, name: str, way: str) -> ThinwireError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ThinwireError(
        f"{package.name} holds its files as {name}, which this Python {version} cannot decompress: {way}"
    )
