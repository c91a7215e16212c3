"""Fetching a Debian package, with a stand-in for apt-get that never touches the network."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest

from thinwire.errors import ThinwireError
from thinwire.weights import client
from thinwire.weights.catalogue import Artifact, Member
from thinwire.weights.fetch import cached_path, fetch
from weights.packages import package

FILES = {"usr/share/fake/images.gz": b"images" * 500, "usr/share/fake/labels.gz": b"labels" * 20}
ARCHIVE = package(FILES)
MEMBERS = [Member(path, hashlib.sha256(content).hexdigest(), len(content)) for path, content in FILES.items()]
ARTIFACT = Artifact(
    package="dataset-fake",
    version="0.0~git2020-1",
    archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    archive_size=len(ARCHIVE),
    member=MEMBERS[0].path,
    sha256=MEMBERS[0].sha256,
    size=MEMBERS[0].size,
    licence="MIT",
    registry="debian",
    beside=tuple(MEMBERS[1:]),
)


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An apt-get that puts a package where it stands; what it does can be changed by the test."""
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")

    class Apt:
        archive, code, log = ARCHIVE, 0, ""

        def __call__(self, command, staging, progress, total):
            self.command, self.total = command, total
            if self.code == 0:
                to = Path(next(c for c in command if c.startswith("--chdir=")).partition("=")[2])
                (to / "dataset-fake_0.0~git2020-1_all.deb").write_bytes(self.archive)
            return self.code, self.log

    apt = Apt()
    monkeypatch.setattr(client, "run", apt)
    return apt


def left_behind():
    return [p for p in cached_path(ARTIFACT).parent.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


def test_files_of_a_package(apt):
    path = fetch(ARTIFACT)
    assert path.read_bytes() == FILES["usr/share/fake/images.gz"]
    assert (path.parent / "labels.gz").read_bytes() == FILES["usr/share/fake/labels.gz"]
    assert sorted(p.name for p in left_behind()) == [".images.gz.stamp", ".labels.gz.stamp", "images.gz", "labels.gz"]
    assert apt.command[-1] == "dataset-fake=0.0~git2020-1"
    assert apt.command[apt.command.index("/somewhere/apt-get") + 1] == "download"  # never install
    assert apt.total == len(ARCHIVE)


def test_a_wrong_archive_is_not_opened(apt):
    apt.archive = package(dict.fromkeys(FILES, b"other"))
    with pytest.raises(ThinwireError, match=f"hash mismatch: the archive .*{ARTIFACT.archive_sha256}"):
        fetch(ARTIFACT)
    assert not left_behind()


def test_a_wrong_file_in_the_right_archive(apt):
    wrong = dataclasses.replace(ARTIFACT, beside=(dataclasses.replace(MEMBERS[1], sha256="1" * 64),))
    with pytest.raises(ThinwireError, match=r"hash mismatch: usr/share/fake/labels\.gz"):
        fetch(wrong)


@pytest.mark.parametrize("archive", [ARCHIVE[: len(ARCHIVE) // 2], b"no package"], ids=["truncated", "other"])
def test_a_damaged_archive(apt, archive):
    apt.archive = archive
    pinned = dataclasses.replace(ARTIFACT, archive_sha256=hashlib.sha256(archive).hexdigest())
    with pytest.raises(ThinwireError, match=r"dataset-fake_.*\.deb, as downloaded, is damaged"):
        fetch(pinned)
    assert not left_behind()


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("E: Unable to locate package dataset-fake\n", r"knows no dataset-fake 0.*apt-get update.*--data FOLDER"),
        ("E: Version '0.0~git2020-1' for 'dataset-fake' was not found\n", r"apt-get update.*images\.gz, labels\.gz"),
        (
            "Err:1 http://mirror.invalid bookworm/main\n  Could not resolve 'mirror.invalid'\n"
            "E: Failed to fetch http://mirror.invalid/x.deb  Could not resolve 'mirror.invalid'\n",
            "no Debian mirror can be reached from here; .*the sources below /etc/apt",
        ),
        ("E: You don't have enough free space in /tmp/\n", "THINWIRE_CACHE"),
        ("E: Write error - write (28: No space left on device)\n", "THINWIRE_CACHE"),
        ("E: Something else\n", r"with apt-get \(Something else\)"),
        ("", "it printed nothing"),
    ],
)
def test_apt_that_fails_is_explained_in_a_sentence(apt, log, sentence):
    apt.code, apt.log = 100, log
    with pytest.raises(ThinwireError, match=sentence) as error:
        fetch(ARTIFACT)
    assert "\n" not in str(error.value)
    assert not left_behind()


def test_no_apt(apt, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ThinwireError, match=r"is missing .*: put images\.gz, labels\.gz in a folder .*--data FOLDER"):
        fetch(ARTIFACT)
