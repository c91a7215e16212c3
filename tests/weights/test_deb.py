"""Files out of Debian packages: of every compression, and not of damaged ones."""

import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.weights.deb import open_member
from weights.packages import ar, package, tarball

FILES = {"usr/share/first.txt": b"first", "usr/share/bytes.bin": np.random.default_rng(0).bytes(300_001)}


def read(path, member):
    with open_member(path, member) as file:
        return file.read()


@pytest.fixture
def deb(tmp_path):
    """Writes a package of these bytes and returns its path."""

    def write(content):
        (tmp_path / "fake_1_all.deb").write_bytes(content)
        return tmp_path / "fake_1_all.deb"

    return write


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", ""])
def test_every_file_is_read(deb, compression):
    path = deb(package(FILES, compression))
    for name, content in reversed(FILES.items()):
        assert read(path, name) == content


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_what_dpkg_builds_is_read(tmp_path, compression):
    (tmp_path / "in" / "DEBIAN").mkdir(parents=True)
    (tmp_path / "in" / "DEBIAN" / "control").write_text(
        "Package: fake\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: none\n"
    )
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", tmp_path / "in", tmp_path / "a.deb"]
    subprocess.run(command, check=True, capture_output=True)
    for name, content in FILES.items():
        assert read(tmp_path / "a.deb", name) == content


@pytest.mark.parametrize("member", ["usr/share/other.txt", "usr", "/usr/share/first.txt", "share/first.txt"])
def test_what_is_no_file_of_the_package(deb, member):
    with pytest.raises(KeyError):
        read(deb(package(FILES)), member)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ar archive"),
        (b"PK\x03\x04 something else", "no ar archive"),
        (b"!<arch>\n" + b"x" * 60, "a header of its ar archive is broken"),
        (ar([("debian-binary", b"2.0\n")]), "holds no data.tar"),
        (package(FILES)[:100_000], "data.tar.xz ends after"),
        (ar([("data.tar.xz", b"no xz")]), "truncated header"),
    ],
    ids=["empty", "other", "header", "no data", "truncated", "no tarball"],
)
def test_damaged_packages(deb, content, words):
    with pytest.raises(tarfile.TarError, match=words):
        read(deb(content), "usr/share/first.txt")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_a_tarball_that_breaks_off(deb, compression):
    cut = ar([(f"data.tar.{compression}", tarball(FILES, compression)[:200_000])])
    with pytest.raises((tarfile.TarError, EOFError)):
        read(deb(cut), "usr/share/bytes.bin")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd")
def test_zstd_is_refused_in_a_sentence(deb):
    with pytest.raises(ThinwireError, match=r"fake_1_all\.deb holds its files as data\.tar\.zst, .*use Python 3\.14"):
        read(deb(ar([("data.tar.zst", b"\x28\xb5\x2f\xfd")])), "usr/share/first.txt")


def test_a_python_without_the_compression(deb, monkeypatch):
    def broken(*args, **kwargs):
        raise tarfile.CompressionError("lzma module is not available")

    path = deb(package(FILES))
    monkeypatch.setattr(tarfile, "open", broken)
    with pytest.raises(ThinwireError, match=r"data\.tar\.xz, which this Python .* cannot decompress: use a Python"):
        read(path, "usr/share/first.txt")
