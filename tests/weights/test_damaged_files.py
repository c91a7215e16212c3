"""Truncated, corrupt and poisoned files end in one sentence that names them."""

import json
import struct
import time

import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.weights.gguf import load_gguf
from thinwire.weights.load import load_model
from thinwire.weights.safetensors import load_safetensors
from weights.checkpoints import TINY, random_tree, write_gguf, write_hf


@pytest.fixture(scope="module")
def good_gguf(tmp_path_factory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("good") / "m.gguf", TINY, random_tree(TINY)).read_bytes()


@pytest.fixture(scope="module")
def good_safetensors(tmp_path_factory) -> bytes:
    return (
        write_hf(tmp_path_factory.mktemp("good") / "hf", TINY, random_tree(TINY)) / "model.safetensors"
    ).read_bytes()


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("part", [0, 0.0001, 0.001, 0.01, 0.02, 0.1, 0.5, 0.99, 0.999999])
def test_truncated_gguf(tmp_path, good_gguf, part):
    path = tmp_path / "cut.gguf"
    path.write_bytes(good_gguf[: int(len(good_gguf) * part)])
    with pytest.raises(ThinwireError, match=r"cut\.gguf") as error:
        load_gguf(path)
    one_sentence(error)


@pytest.mark.parametrize("part", [0, 0.00001, 0.0001, 0.001, 0.01, 0.5, 0.999999])
def test_truncated_safetensors(tmp_path, good_safetensors, part):
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY))
    path = folder / "model.safetensors"
    path.write_bytes(good_safetensors[: int(len(good_safetensors) * part)])
    with pytest.raises(ThinwireError, match=r"model\.safetensors is truncated or corrupt") as error:
        load_safetensors(folder)
    one_sentence(error)


def test_any_damage_to_a_gguf_header_is_told_or_harmless(tmp_path, good_gguf):
    rng = np.random.default_rng(0)
    path = tmp_path / "hurt.gguf"
    refused = 0
    for _ in range(150):
        hurt = bytearray(good_gguf)
        at = int(rng.integers(0, 12_000))
        hurt[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        path.write_bytes(hurt)
        try:
            load_gguf(path)
        except ThinwireError:
            refused += 1
    assert refused > 50


def test_any_damage_to_a_safetensors_header_is_told_or_harmless(tmp_path, good_safetensors):
    rng = np.random.default_rng(0)
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY))
    length = int.from_bytes(good_safetensors[:8], "little")
    refused = 0
    for _ in range(150):
        hurt = bytearray(good_safetensors)
        at = int(rng.integers(0, length + 8))
        hurt[at] = int(rng.integers(0, 256))
        (folder / "model.safetensors").write_bytes(hurt)
        try:
            load_safetensors(folder)
        except ThinwireError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("offset", "value", "word"),
    [
        (0, b"GGML", "begin with the letters"),
        (4, struct.pack("<I", 1), "version 1"),
        (8, struct.pack("<Q", 2**60), "truncated or corrupt"),
        (16, struct.pack("<Q", 2**60), "truncated or corrupt"),
        (24, struct.pack("<Q", 2**63), "truncated or corrupt"),
    ],
)
def test_corrupt_gguf_header(tmp_path, good_gguf, offset, value, word):
    path = tmp_path / "m.gguf"
    path.write_bytes(good_gguf[:offset] + value + good_gguf[offset + len(value) :])
    with pytest.raises(ThinwireError, match=word):
        load_gguf(path)


@pytest.mark.parametrize("length", [1_000, 20_000, 2**31, 2**62])
def test_an_array_of_impossible_length_is_not_stepped_through(tmp_path, good_gguf, length):
    key = b"tokenizer.ggml.token_type"
    at = good_gguf.index(key) + len(key) + 8  # after the types of the value and of its elements
    assert struct.unpack_from("<Q", good_gguf, at) == (TINY.V,)
    path = tmp_path / "m.gguf"
    path.write_bytes(good_gguf[:at] + struct.pack("<Q", length) + good_gguf[at + 8 :])
    start = time.process_time()
    with pytest.raises(ThinwireError, match="truncated or corrupt") as error:
        load_gguf(path)
    one_sentence(error)
    assert time.process_time() - start < 10


def test_a_tensor_that_wraps_around_or_has_an_unknown_type(tmp_path, good_gguf):
    key = b"blk.1.ffn_up.weight"
    at = good_gguf.index(key) + len(key) + 4 + 2 * 8  # after its two axes: the type, then the offset
    path = tmp_path / "m.gguf"
    path.write_bytes(good_gguf[:at] + struct.pack("<I", 200) + good_gguf[at + 4 :])
    with pytest.raises(ThinwireError, match=r"truncated or corrupt .*200"):
        load_gguf(path)
    path.write_bytes(good_gguf[: at + 4] + struct.pack("<Q", 2**64 - 32) + good_gguf[at + 12 :])
    with pytest.raises(ThinwireError, match="truncated or corrupt"):
        load_gguf(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantisation_that_the_package_cannot_unpack(tmp_path):
    extra = {"blk.1.ffn_up.weight": np.ones((TINY.F, TINY.D), "f8")}
    with pytest.raises(ThinwireError, match=r"GGUF type F64 cannot be read: use"):
        load_gguf(write_gguf(tmp_path / "m.gguf", TINY, random_tree(TINY), extra=extra))


def test_safetensors_of_another_dtype(tmp_path):
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY), dtype="float64")
    with pytest.raises(ThinwireError, match=r"has dtype F64; F32, F16 and BF16"):
        load_safetensors(folder)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_poisoned_weights_name_their_tensor(tmp_path, poison):
    params = random_tree(TINY)
    params["layers"]["wk"][1, 3, 1, 7] = poison
    with pytest.raises(ThinwireError, match=r"blk\.1\.attn_k\.weight .* NaN"):
        load_gguf(write_gguf(tmp_path / "m.gguf", TINY, params))
    with pytest.raises(ThinwireError, match=r"model\.layers\.1\.self_attn\.k_proj\.weight .* NaN"):
        load_safetensors(write_hf(tmp_path / "hf", TINY, params))


def test_large_but_finite_weights_are_let_through(tmp_path):
    params = random_tree(TINY)
    params["embed"][:] = 3e38
    assert np.isfinite(load_safetensors(write_hf(tmp_path / "hf", TINY, params))[1]["embed"]).all()


def test_incomplete_folders(tmp_path):
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY), shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ThinwireError, match="model-00002-of-00002"):
        load_model(str(folder))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x"}}))
    with pytest.raises(ThinwireError, match="damaged"):
        load_model(str(folder))
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ThinwireError, match="holds neither"):
        load_model(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ThinwireError, match="not valid JSON"):
        load_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ThinwireError, match=r"cannot read .*config\.json"):
        load_model(str(folder))


def test_missing_or_damaged_tokenizer(tmp_path):
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ThinwireError, match="not a readable tokenizer"):
        load_safetensors(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ThinwireError, match=r"there is no .*tokenizer\.json"):
        load_safetensors(folder)
