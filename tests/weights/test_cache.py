"""Files get into the cache whole or not at all, and what stops them is told."""

import errno
import subprocess
import sys

import pytest

from thinwire.errors import ThinwireError
from thinwire.weights import cache


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("THINWIRE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "thinwire"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_dir() == tmp_path / "home/.cache/thinwire"
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "mine"))
    assert cache.cache_dir() == tmp_path / "mine"
    assert cache.cache_dir().is_dir()


def test_unwritable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ThinwireError, match=r"cannot write to .*below.* set THINWIRE_CACHE"):
        cache.cache_dir()


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "a"
    with cache.atomic_write(target) as f:
        f.write(b"old")
    with pytest.raises(RuntimeError), cache.atomic_write(target) as f:  # noqa: PT012
        f.write(b"new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_full_disk(tmp_path):
    with pytest.raises(ThinwireError, match=r"disk .* is full.*THINWIRE_CACHE"), cache.atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_intact_by_stamp_or_by_hash(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    sha = cache.sha256_file(path)
    assert sha == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert cache.is_intact(path, sha, 5)
    with monkeypatch.context() as m:
        m.setattr(cache, "sha256_file", lambda _: pytest.fail("hashed again"))
        assert cache.is_intact(path, sha, 5)
    path.write_bytes(b"hellO")  # same size, other time
    assert not cache.is_intact(path, sha, 5)
    path.write_bytes(b"hell")
    assert not cache.is_intact(path, sha, 5)
    path.unlink()
    assert not cache.is_intact(path, sha, 5)


HOLD = """
import sys, time
from pathlib import Path
from thinwire.weights.cache import locked
with locked(Path(sys.argv[1])):
    for word in ("in", "out"):
        with open(sys.argv[2], "a") as f:
            f.write(word + "\\n")
        time.sleep(0.1)
"""


def test_the_lock_keeps_processes_apart(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a"), str(tmp_path / "log")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 3
