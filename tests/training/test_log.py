"""The curve of a run: every record at once, no step twice after a resumption, TensorBoard's files."""

import errno
import json
import os
import struct
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.training import log
from thinwire.training.log import MetricsLog, read_log


def steps(folder):
    return [record["step"] for record in read_log(folder)]


def filled(folder, last=5, **more):
    with MetricsLog(folder, **more) as curve:
        for step in range(1, last + 1):
            curve.scalars(step, {"loss": 1 / step})


def test_a_record_is_there_at_once(tmp_path):
    with MetricsLog(tmp_path / "run") as curve:
        curve.scalars(3, {"loss": jnp.float32(0.5), "rate": 1e-3})
        (found,) = read_log(tmp_path / "run")
        assert found.pop("time") > 1.7e9
        assert found == {"step": 3, "loss": 0.5, "rate": 1e-3}
        curve.scalars(4, {"loss": float("nan"), "norm": float("inf")})
    text = (tmp_path / "run" / log.FILE).read_text()
    assert text.count("\n") == 2
    last = json.loads(text.splitlines()[1], parse_constant=lambda name: pytest.fail(name))
    assert last["loss"] is last["norm"] is None


def test_histograms(tmp_path):
    usage = np.array([[0, 1, 1, np.nan], [2, 4, np.inf, 3]], np.float32)
    with MetricsLog(tmp_path) as curve:
        curve.histograms(7, {"usage/kv/0": jnp.asarray(usage), "none": np.zeros(0)})
    (record,) = read_log(tmp_path)
    found = record["histograms"]["usage/kv/0"]
    counts, edges = np.array(found["counts"]), np.array(found["edges"])
    assert [edges[0], edges[-1], len(edges) - len(counts), counts.sum()] == [0, 4, 1, 6]
    assert counts[0] == 1
    assert counts[-1] == 1
    assert counts[np.searchsorted(edges, 1, side="right") - 1] == 2
    assert sum(record["histograms"]["none"]["counts"]) == 0


@pytest.mark.parametrize("name", ["step", "time", "histograms"])
def test_names_that_are_taken(tmp_path, name):
    with MetricsLog(tmp_path) as curve, pytest.raises(ValueError, match=name):
        curve.scalars(1, {name: 1.0})
    assert read_log(tmp_path) == []


@pytest.mark.parametrize(("after", "left"), [(0, []), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_a_resumed_run_cuts_off_what_is_after_its_step(tmp_path, after, left):
    filled(tmp_path)
    with MetricsLog(tmp_path, after=after) as curve:
        assert steps(tmp_path) == left
        curve.scalars(after + 1, {"loss": 0.0})
    assert steps(tmp_path) == [*left, after + 1]
    assert [path.name for path in tmp_path.iterdir()] == [log.FILE]


@pytest.mark.parametrize("torn", [b'{"step": 6, "lo', b'{"step": 6}', b"\x00\xff\n", b"[1]\n", b'{"loss": 1}\n'])
def test_a_torn_line_is_no_record_and_is_cut_off(tmp_path, torn):
    filled(tmp_path)
    with (tmp_path / log.FILE).open("ab") as file:
        file.write(torn)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    with MetricsLog(tmp_path, after=6) as curve:
        curve.scalars(7, {"loss": 0.0})
    assert [json.loads(line)["step"] for line in (tmp_path / log.FILE).read_text().splitlines()] == [1, 2, 3, 4, 5, 7]


def test_a_cut_that_fails_leaves_the_curve(tmp_path, monkeypatch):
    filled(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ThinwireError, match=r"metrics\.jsonl cannot be written: No space left on device; make room"):
        MetricsLog(tmp_path, after=2)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == [log.FILE]


def test_a_new_run_does_not_write_into_an_old_curve(tmp_path):
    filled(tmp_path)
    before = (tmp_path / log.FILE).read_bytes()
    with pytest.raises(ThinwireError, match="the log of an earlier run: resume that run, or name another folder"):
        MetricsLog(tmp_path)
    assert (tmp_path / log.FILE).read_bytes() == before


def test_a_disk_that_fills_up_is_told_in_one_sentence(tmp_path):
    with MetricsLog(tmp_path) as curve, Path("/dev/full").open("ab", buffering=0) as full:
        os.dup2(full.fileno(), curve._file.fileno())
        with pytest.raises(ThinwireError, match="No space left on device; make room"):
            curve.scalars(1, {"loss": 1.0})
    assert read_log(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ThinwireError, match=r"metrics\.jsonl cannot be written: (Not a directory|File exists)"):
        MetricsLog(tmp_path / "file" / "run")
    with pytest.raises(ThinwireError, match=r"cannot be read: .*; name the folder of a training run"):
        read_log(tmp_path / "nowhere")


def events(folder):
    """What TensorBoard would read: (step, name, value or histogram) of every event, and the restarts."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found, restarts = [], []
    for path in sorted((folder / log.TENSORBOARD).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])  # behind the length and its checksum
            at += 12 + length + 4
            for value in event.summary.value:
                histogram = value.HasField("histo")
                found.append((event.step, value.tag, value.histo if histogram else value.simple_value))
            if event.session_log.status == SessionLog.START:
                restarts.append(event.step)
    return found, restarts


def test_tensorboard_reads_the_same(tmp_path):
    with MetricsLog(tmp_path, tensorboard=True) as curve:
        curve.scalars(1, {"loss": 0.5, "rate": 0.25})
        curve.histograms(2, {"usage": np.array([0, 1, 1, 5]), "none": np.zeros(0)})
        found, restarts = events(tmp_path)  # at once
    (*scalars, (step, name, histogram)) = found
    assert scalars == [(1, "loss", 0.5), (1, "rate", 0.25)]
    assert (step, name, histogram.num, histogram.max) == (2, "usage", 4, 5)
    assert restarts == []
    assert events(tmp_path)[0] == found


def test_tensorboard_forgets_what_is_after_the_step(tmp_path):
    filled(tmp_path, tensorboard=True)
    with MetricsLog(tmp_path, tensorboard=True, after=3) as curve:
        curve.scalars(4, {"loss": 0.0})
    found, restarts = events(tmp_path)
    assert [step for step, *_ in found] == [1, 2, 3, 4, 5, 4]  # the first file is as it was, whatever the second
    assert restarts == [4]


def test_tensorboard_on_a_full_disk(tmp_path, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with MetricsLog(tmp_path, tensorboard=True) as curve, monkeypatch.context() as change:
        change.setattr(curve._events._writer, "flush", full)
        with pytest.raises(ThinwireError, match="No space left on device; make room"):
            curve.scalars(1, {"loss": 1.0})
    assert steps(tmp_path) == [1]


def test_tensorboard_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "tensorboardX.summary", raising=False)
    with pytest.raises(ThinwireError, match=r"pip install 'thinwire\[tensorboard\]', or do without"):
        MetricsLog(tmp_path / "run", tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_start_leaves_no_open_file(tmp_path):
    (tmp_path / log.TENSORBOARD).write_text("in the way")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(ThinwireError, match="cannot be written"):
            MetricsLog(tmp_path, tensorboard=True)
