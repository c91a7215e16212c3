import dataclasses
import errno
import json
import os
import stat
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.reports.json_file import plain, to_json, write_json


@dataclasses.dataclass
class Point:
    x: float
    y: float


def test_not_a_number_becomes_null():
    text = to_json({"a": float("nan"), "b": [float("inf"), np.float32("nan")], "c": jnp.array([1.0, jnp.nan])})
    assert json.loads(text) == {"a": None, "b": [None, None], "c": [1.0, None]}
    assert "NaN" not in text


def test_values_become_plain():
    value = {"n": np.int64(3), "t": (1, 2), "p": Path("a"), 10: True, "d": Point(1.0, float("nan")), "none": None}
    assert plain(value) == {"n": 3, "t": [1, 2], "p": "a", "10": True, "d": {"x": 1.0, "y": None}, "none": None}


def test_written_whole_with_usual_permissions(tmp_path):
    path = write_json(tmp_path / "a" / "b.json", {"é": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "é": 1\n}\n'
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_json(tmp_path / "a.json", {"old": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ThinwireError, match="No space left") as caught:
        write_json(path, {"new": 2})
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_cannot_be_written_touches_nothing(tmp_path):
    class Broken:
        def tolist(self):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_json(tmp_path / "a.json", {"x": Broken()})
    assert list(tmp_path.iterdir()) == []


def test_folders_and_files_in_the_way_are_told(tmp_path):
    with pytest.raises(ThinwireError, match="it is a folder"):
        write_json(tmp_path, {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(ThinwireError, match="cannot write"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_json(tmp_path / "link.json", {"x": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == {"x": 1}


def test_a_device_is_written_through():
    write_json("/dev/null", {"x": 1})
    assert not Path("/dev/null").is_file()
