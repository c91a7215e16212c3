"""A place of its own for every test of the command line, and a tiny model that reads and writes text."""

import dataclasses
import functools
import re

import jax
import pytest

from thinwire.cli import compare, demo, inputs, run  # noqa: F401  what `refuses` watches
from thinwire.cli.main import main
from thinwire.training.calibrate import CalibrationJob
from thinwire.weights import client
from thinwire.weights.shapes import random_params
from weights.checkpoints import TINY, write_hf

CONFIG = dataclasses.replace(TINY, D=32, H=2, K=1, d=16, F=32, V=263, context=64)
WORDS = "the rain in the inner ring over there; whether the heron or the tern is here, or neither. "


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder; the cache is ``cache`` in it; nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    offline = "WARNING: NewConnectionError: Name or service not known\nERROR: No matching distribution found"
    monkeypatch.setattr(client, "run", lambda command, staging, progress, total: (1, offline))
    return tmp_path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny model with a byte-level tokenizer."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x if "norm" in jax.tree_util.keystr(path) else 10 * x, random_params(CONFIG)
    )
    return str(write_hf(tmp_path_factory.mktemp("model") / "tiny", CONFIG, params))


@pytest.fixture
def text(place):
    """A text that is long enough to be learnt from and tested on."""
    path = place / "words.txt"
    path.write_text("\n".join(f"{i}. {WORDS}" for i in range(60)))
    return str(path)


@pytest.fixture
def little_calibration(monkeypatch):
    """Codebooks that are missing are learnt from little."""
    little = functools.partial(CalibrationJob, windows=6, window=32, rows=120)
    monkeypatch.setattr(inputs, "CalibrationJob", little)


@pytest.fixture
def refuses(place, monkeypatch, capsys):
    """Checks that a command ends at once with 2 and one sentence, that nothing ran and nothing was left behind."""

    def began(*args, **kwargs):
        raise AssertionError("work began before the mistake was told")

    for name in ("inputs.collect", "inputs.learn", "compare.compare", "run.Engine", "demo.Engine"):
        monkeypatch.setattr(f"thinwire.cli.{name}", began)

    def check(argv, words):
        before = files(place)
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        *remarks, sentence = err.splitlines()
        assert sentence.startswith("thinwire: ")
        assert re.search(words, sentence), sentence
        assert not [line for line in remarks if line.startswith("thinwire:") or "Traceback" in line]
        assert files(place) == before

    return check


def files(folder):
    """Every file below a folder, but locks (which hold nothing) and notes of hashes."""
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in found.items() if path.suffix not in (".lock", ".stamp")}
