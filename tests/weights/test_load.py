"""Names of models: shapes, paths, Hub ids, and those that mean nothing."""

import dataclasses
import sys

import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.models.llama_config import param_shapes
from thinwire.weights import hub, shapes
from thinwire.weights.load import load_model
from thinwire.weights.shapes import SHAPES, random_params
from weights.checkpoints import TINY, assert_same, random_tree, write_gguf, write_hf


def test_a_shape_with_fewer_layers():
    some = load_model("shape:llama-tiny:layers=1")
    assert some.config == dataclasses.replace(SHAPES["llama-tiny"], L=1)
    assert len(some.params["layers"]["w_up"]) == 1


@pytest.mark.parametrize("layers", ["", "0", "-1", "many", "2.5", "100000"])
def test_a_shape_with_no_number_of_layers_is_refused(layers):
    with pytest.raises(ThinwireError, match="needs 1 to 1000 layers"):
        load_model(f"shape:llama-tiny:layers={layers}")


def test_shape():
    a, b = load_model("shape:llama-tiny"), load_model("shape:llama-tiny")
    assert a.tokenizer is None
    assert a.family == "llama"
    assert a.config == SHAPES["llama-tiny"]
    assert a.sha256 == b.sha256
    assert_same(a.params, b.params)
    assert_shapes(a.params, param_shapes(a.config))
    assert np.all(a.params["final_norm"] == 1)
    assert a.params["embed"].std() == pytest.approx(0.02, rel=0.05)
    layers = a.params["layers"]["w_up"]
    assert not np.array_equal(layers[0], layers[1])


def assert_shapes(tree, shapes):
    assert tree.keys() == shapes.keys()
    for key, shape in shapes.items():
        if isinstance(shape, dict):
            assert_shapes(tree[key], shape)
        else:
            assert tree[key].shape == shape


def test_a_shape_that_outgrows_the_memory(monkeypatch):
    monkeypatch.setattr(shapes, "_memory_bytes", lambda: 2**30)
    with pytest.raises(ThinwireError, match=r"30 GiB of memory .* 1 GiB"):
        random_params(SHAPES["llama-8b"])


def test_published_sizes():
    """Parameters counted by hand from the models' published cards."""
    counts = {
        "smollm2-135m": 134.5e6, "smollm2-360m": 361.8e6, "llama-1b": 1.2358e9, "llama-8b": 8.0303e9,
        "gpt2": 124.44e6, "gpt2-medium": 354.82e6, "bert-base": 108.89e6, "bert-large": 334.09e6,  # BERTs less poolers
    }  # fmt: skip
    for name, count in counts.items():
        tree = FAMILIES[SHAPES[name].family].param_shapes(SHAPES[name])
        total = sum(np.prod(s) for s in [*tree.pop("layers").values(), *tree.values()])
        assert total == pytest.approx(count, rel=1e-3)


def test_paths(tmp_path):
    params = random_tree(TINY)
    model = load_model(str(write_gguf(tmp_path / "m.gguf", TINY, params)))
    assert_same(model.params, params)
    assert model.name.endswith("m.gguf")
    assert len(model.sha256) == 64
    assert load_model(str(write_hf(tmp_path / "hf", TINY, params))).config == TINY


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smolm2-135m", "did you mean smollm2-135m"),
        ("shape:llama-9b", "did you mean shape:llama-8b"),
        ("shape:", "shape:llama-tiny"),
        ("zzz", "known are smollm2-135m"),
        ("no/such/file.gguf", "there is no file"),
        ("", "unknown model ''"),
        ("a\0b", "unknown model"),
        ("x" * 5000, "unknown model"),
    ],
)
def test_unknown_names_list_what_is_known(name, words):
    with pytest.raises(ThinwireError, match=words) as error:
        load_model(name)
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"x")
    with pytest.raises(ThinwireError, match="is not a model"):
        load_model(str(tmp_path / "m.bin"))


def test_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ThinwireError, match=r"huggingface_hub: pip install"):
        load_model("some-org/some-model")


def test_hub_without_network(monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def offline(*args, **kwargs):
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ThinwireError, match="the Hub cannot be reached") as error:
        load_model("some-org/some-model")
    assert "\n" not in str(error.value)


def test_hub_folder(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, allow_patterns: str(folder))
    assert hub.fetch_from_hub("some-org/some-model") == folder
    assert load_model("some-org/some-model").config == TINY
