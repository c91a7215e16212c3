import dataclasses
import hashlib
import json

import pytest

from thinwire.cli import fetch as cli
from thinwire.cli.main import main
from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import IMAGES, MODELS, TEXTS

CONTENT = b"weights"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def registry(cache, monkeypatch):
    """Replaces the download: `tiny` comes at once, and how often is counted."""
    like = MODELS["smollm2-135m"]
    digest = hashlib.sha256(CONTENT).hexdigest()
    tiny = dataclasses.replace(like, package="tiny", sha256=digest, size=len(CONTENT), archive_size=10)
    monkeypatch.setitem(MODELS, "tiny", tiny)
    calls = []

    def fetch(artifact, progress=None):
        calls.append(artifact)
        path = cli.registry.cached_path(artifact)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        if progress is not None:
            progress(10, 10)
        return path

    monkeypatch.setattr(cli.registry, "fetch", fetch)
    return calls


def test_fetch_tells_path_size_hash_and_licence(registry, capsys):
    assert main(["fetch", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert "tiny: /" in out
    for fact in ("7 B", hashlib.sha256(CONTENT).hexdigest(), "Apache-2.0"):
        assert fact in out
    assert "fetching tiny: done" in err
    assert len(registry) == 1


def test_a_cached_file_is_not_fetched_again(registry, capsys):
    assert main(["fetch", "tiny", "tiny"]) == 0
    assert main(["fetch", "tiny"]) == 0
    assert len(registry) == 1


def test_json(registry, capsys):
    assert main(["fetch", "tiny", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["kind"] == "model"
    assert entry["size"] == len(CONTENT)
    assert entry["path"].endswith(".gguf")


def test_list_names_everything_and_fetches_nothing(registry, capsys):
    assert main(["fetch", "--list"]) == 0
    out = capsys.readouterr().out
    for name in (*MODELS, *TEXTS, *IMAGES):
        assert name in out
    assert main(["fetch", "--list", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == {*MODELS, *TEXTS, *IMAGES}
    assert registry == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["tiny", "smollm2-135"], "did you mean smollm2-135m?"),
        (["tiny", "qqq"], "there are smollm2-135m"),
        ([], "name what to fetch"),
        (["--list", "tiny"], "--list fetches nothing"),
    ],
)
def test_mistakes_are_told_before_anything_is_fetched(registry, capsys, argv, sentence):
    assert main(["fetch", *argv]) == 2
    assert sentence in capsys.readouterr().err
    assert registry == []


def test_hub_ids_go_to_the_hub(registry, capsys, monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr(cli, "fetch_from_hub", lambda name: tmp_path)
    assert main(["fetch", "some/model"]) == 0
    assert f"some/model: {tmp_path}" in capsys.readouterr().out


def test_a_failed_download_is_one_sentence(registry, capsys, monkeypatch):
    def fail(artifact, progress=None):
        raise ThinwireError("no network: try again")

    monkeypatch.setattr(cli.registry, "fetch", fail)
    assert main(["fetch", "tiny"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "thinwire: no network: try again"
