"""Debian packages, by apt-get: downloaded and opened, never installed."""

import hashlib
import re
import shutil
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.cache import explain_os_errors
from thinwire.weights.catalogue import Artifact

_WORDS = client.Words(
    name="apt-get",
    registry="Debian mirror",
    offline=re.compile(
        r"Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|"
        r"Connection (failed|timed out)|Cannot initiate the connection|Network is unreachable"
    ),
    full=re.compile("No space left on device|enough free space"),
    error="E: ",
    mirror="the sources below /etc/apt",
    settings="apt-config dump",
)
_UNKNOWN = re.compile(r"Unable to locate package|Version '.*' for '.*' was not found|Can't find a source to download")


def download(artifact: Artifact, staging: Path, progress: client.Progress | None) -> Path:
    """Downloads a package into ``staging`` with apt-get, which needs no root for it, and checks its hash.

    Raises:
        ThinwireError: apt-get is missing, could not fetch it, or fetched other bytes than pinned.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise ThinwireError(
            f"apt-get, which fetches {artifact.package}, is missing (Debian and its relatives have it): "
            f"{_by_hand(artifact)}"
        )
    packages = staging / "packages"
    with explain_os_errors(staging):
        packages.mkdir()
    # It writes where it stands, and its words are understood in English only.
    command = ["env", f"--chdir={packages}", "LC_ALL=C", apt, "download", "--quiet", "--option=Acquire::Retries=2"]
    command += [f"{artifact.package}={artifact.version}"]
    code, log = client.run(command, staging, progress, artifact.archive_size)
    found = sorted(packages.glob("*.deb"))
    if code != 0 or len(found) != 1:
        if _UNKNOWN.search(log):
            raise ThinwireError(
                f"apt-get knows no {artifact.package} {artifact.version}: "
                f"run `apt-get update` as root and try again, or {_by_hand(artifact)}"
            )
        raise _WORDS.explain(artifact, staging, log)
    with explain_os_errors(staging), found[0].open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != artifact.archive_sha256:
        raise client.mismatch(artifact, "the archive", artifact.archive_sha256, got)
    return found[0]


def _by_hand(artifact: Artifact) -> str:
    """The way out where apt-get is of no use."""
    names = ", ".join(member.path.rsplit("/", 1)[-1] for member in artifact.members)
    return f"put {names} in a folder and give it with --data FOLDER"
