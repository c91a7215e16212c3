"""Codebook sets on disk: what is saved is loaded, what is damaged or foreign is refused in one sentence."""

import dataclasses
import errno
import json
import logging
import shutil

import numpy as np
import pytest

from thinwire.codebooks import store
from thinwire.codebooks.store import Manifest, check_fits, load, save
from thinwire.errors import ThinwireError

ARRAYS = {
    "k": {"codebook": np.random.default_rng(0).normal(size=(3, 2, 8, 4)).astype(np.float32)},
    "v": {"codebook": np.random.default_rng(1).normal(size=(3, 2, 8, 5)).astype(np.float32)},
}
MANIFEST = Manifest(
    model="tiny",
    model_sha256="ab" * 32,
    family="llama",
    layers=3,
    codec="vq:groups=2:size=8",
    sites={"k": 8, "v": 10},
    data={"source": "a text", "sha256": "cd" * 32, "tokens": 4096},
    seed=7,
    health={"k": [{"dead": 0.0}] * 3},
)


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "set", MANIFEST, ARRAYS)
    return tmp_path / "set"


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def names(folder):
    return [p.name for p in folder.iterdir()]


def test_round_trip(saved, caplog):
    with caplog.at_level(logging.WARNING):
        found = load(saved)
    assert not caplog.records
    for site, arrays in ARRAYS.items():
        assert (found.arrays[site]["codebook"] == arrays["codebook"]).all()
    assert found.manifest.shapes == {"k": {"codebook": [3, 2, 8, 4]}, "v": {"codebook": [3, 2, 8, 5]}}
    assert dataclasses.replace(found.manifest, shapes={}, arrays_sha256="") == MANIFEST
    assert json.loads((saved / "manifest.json").read_text())["data"]["tokens"] == 4096
    assert names(saved.parent) == ["set"]


def test_no_file_says_where_it_was_saved(saved, tmp_path):
    assert not [file for file in files(saved) if tmp_path.name.encode() in file.read_bytes()]


def test_a_set_replaces_a_set(saved):
    save(saved, dataclasses.replace(MANIFEST, seed=8), ARRAYS)
    assert load(saved).manifest.seed == 8
    assert names(saved.parent) == ["set"]


@pytest.mark.parametrize("make", [lambda p: p.write_text("mine"), lambda p: (p.mkdir(), (p / "x").write_text("mine"))])
def test_nothing_else_is_overwritten(tmp_path, make):
    make(tmp_path / "mine")
    before = files(tmp_path)
    with pytest.raises(ThinwireError, match="is not a codebook set"):
        save(tmp_path / "mine", MANIFEST, ARRAYS)
    assert files(tmp_path) == before


def failing(error):
    def save(*_):
        raise error

    return save


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EROFS, "x"), "Read-only file system"),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']"), "No space left on device"),
    ],
)
def test_a_failed_save_leaves_the_old_set(saved, monkeypatch, error, says):
    monkeypatch.setattr(store.ocp, "save", failing(error))
    with pytest.raises(ThinwireError, match=f"set: {says}") as caught:
        save(saved, dataclasses.replace(MANIFEST, seed=8), ARRAYS)
    assert str(saved) in str(caught.value)
    assert load(saved).manifest.seed == 7
    assert names(saved.parent) == ["set"]


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store.ocp, "save", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "set", MANIFEST, ARRAYS)
    assert names(tmp_path) == []


def test_full_disk_is_told_before_anything_large_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(ThinwireError, match="No space left on device"):
        save(tmp_path / "set", MANIFEST, ARRAYS)
    assert names(tmp_path) == []


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ThinwireError, match=r"file/set: (Not a directory|File exists)"):
        save(tmp_path / "file" / "set", MANIFEST, ARRAYS)


def change(name, value):
    def change_manifest(folder):
        found = json.loads((folder / "manifest.json").read_text())
        found[name] = value
        (folder / "manifest.json").write_text(json.dumps(found))

    return change_manifest


def largest(folder):
    return max(files(folder / "arrays"), key=lambda p: p.stat().st_size)


def truncate(folder):
    largest(folder).write_bytes(largest(folder).read_bytes()[:100])


def flip(folder):
    """Changes every byte in the middle third of the largest file: numbers stay numbers of the right count."""
    data = bytearray(largest(folder).read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(b ^ 1 for b in data[third : 2 * third])
    largest(folder).write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (shutil.rmtree, "There are no codebooks at"),
        (lambda f: (f / "manifest.json").unlink(), "has no manifest.json"),
        (lambda f: (f / "manifest.json").write_text('{"format": 1,'), "manifest.json is damaged"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json cannot be read"),
        (lambda f: (f / "manifest.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "manifest.json").write_text('{"format": 1}'), "lacks 'model'"),
        (change("format", 99), "format 99"),
        (change("layers", "three"), "'layers' is 'three'"),
        (change("layers", 4), "there are 4 layers"),
        (change("sites", {"k": 9, "v": 10}), "does not make rows of 9 values"),
        (change("sites", {"k": 8}), "name different sites"),
        (change("shapes", {"k": {"codebook": [3, 2, 8, 9]}, "v": {"codebook": [3, 2, 8, 5]}}), "damaged"),
        (change("shapes", {"k": {"codebook": [3, -2]}, "v": {"codebook": [3, 2, 8, 5]}}), "positive whole number"),
        (change("shapes", {"k": {"other": [3]}, "v": {"codebook": [3, 2, 8, 5]}}), "incomplete or damaged"),
        (lambda f: shutil.rmtree(f / "arrays"), "incomplete or damaged"),
        (lambda f: largest(f).unlink(), "incomplete or damaged"),
        (truncate, "damaged"),
        (flip, "damaged"),
        (change("arrays_sha256", "00"), "hash"),
    ],
)
# The checkpoint library's own threads may drop an exception of theirs while they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_is_told_in_one_sentence(saved, harm, says, capfd):
    harm(saved)
    with pytest.raises(ThinwireError, match=says) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"k": ARRAYS["k"]}, "sites k, not k, v"),
        ({**ARRAYS, "k": {"codebook": np.full((3, 2, 8, 4), np.nan, np.float32)}}, "NaN"),
        ({**ARRAYS, "k": {"codebook": np.zeros((2, 2, 8, 4), np.float32)}}, "3 layers"),
        ({**ARRAYS, "k": {"codebook": np.zeros((3, 2, 8, 4))}}, "float64"),
    ],
)
def test_arrays_that_are_not_what_the_manifest_says_are_not_saved(tmp_path, arrays, says):
    with pytest.raises(ValueError, match=says):
        save(tmp_path / "set", MANIFEST, arrays)
    assert names(tmp_path) == []


FITS = {
    "model_sha256": "ab" * 32,
    "model_name": "tiny",
    "layers": 3,
    "sites_dims": {"k": 8},
    "codec_spec": "vq:groups=2:size=8",
}


def test_fits():
    check_fits(MANIFEST, **FITS)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"model_sha256": "00", "model_name": "small"}, "for model tiny, not small"),
        ({"model_sha256": "00"}, "for other weights of tiny"),
        ({"layers": 4}, "for 3 layers, not 4"),
        ({"sites_dims": {"x": 8}}, "for sites k, v, not x"),
        ({"sites_dims": {"k": 16}}, "for width 8 at site k, not 16"),
        ({"codec_spec": "vq:groups=4:size=8"}, "for codec vq:groups=2:size=8, not vq:groups=4:size=8"),
        ({"layers": 4, "codec_spec": "int8"}, "3 layers, not 4; for codec .*, not int8"),
    ],
)
def test_does_not_fit(other, says):
    with pytest.raises(ThinwireError, match=says):
        check_fits(MANIFEST, **FITS | other)
