"""GGUF and safetensors forms of one model load to the same tree, and to the model itself."""

import dataclasses
import json

import gguf
import numpy as np
import pytest

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig, RopeScaling
from thinwire.weights.gguf import half_split_rows, interleaved_rows, llama3_factors, load_gguf
from thinwire.weights.load import load_model
from thinwire.weights.safetensors import load_safetensors
from weights.checkpoints import LLAMA3, TINY, UNTIED, assert_same, random_tree, rounded, write_gguf, write_hf

Q = gguf.GGMLQuantizationType


def factors(config: LlamaConfig) -> dict[str, np.ndarray]:
    """The table of rotary factors that a GGUF file of this model carries."""
    if config.rope_scaling is None:
        return {}
    return {"rope_freqs.weight": llama3_factors(config.rope_scaling, config.rope_theta, config.d).astype(np.float32)}


@pytest.mark.parametrize("config", [TINY, UNTIED, LLAMA3], ids=["tied", "untied", "llama3"])
def test_both_formats_give_the_model_back(tmp_path, config):
    params = random_tree(config)
    a, from_gguf, tokens_a = load_gguf(write_gguf(tmp_path / "m.gguf", config, params, extra=factors(config)))
    b, from_hf, tokens_b = load_safetensors(write_hf(tmp_path / "hf", config, params))
    assert a == b == config
    assert_same(from_gguf, params)
    assert_same(from_hf, params)
    for text in ["the weather in 1984", "  twö\n\nlines", "they're", ""]:
        assert tokens_a.encode(text) == tokens_b.encode(text)
        assert tokens_a.decode(tokens_a.encode(text)) == text
    assert set(tokens_a.eos_ids) == {261, 262}
    assert set(tokens_b.eos_ids) == {261, 262, config.V - 1}
    assert tokens_a.vocab == tokens_b.vocab == config.V


def test_shards_and_half_precision(tmp_path):
    params = random_tree(UNTIED)
    _, sharded, _ = load_safetensors(write_hf(tmp_path / "sharded", UNTIED, params, shards=3))
    assert_same(sharded, params)
    _, half, _ = load_safetensors(write_hf(tmp_path / "half", UNTIED, params, dtype="float16"))
    assert_same(half["layers"], {k: v.astype("f2").astype("f4") for k, v in params["layers"].items()})
    import ml_dtypes

    _, brain, _ = load_safetensors(write_hf(tmp_path / "brain", UNTIED, params, dtype="bfloat16"))
    assert_same(brain["layers"], {k: v.astype(ml_dtypes.bfloat16).astype("f4") for k, v in params["layers"].items()})


def test_one_file_with_its_config_beside_it(tmp_path):
    params = random_tree(TINY)
    folder = write_hf(tmp_path / "hf", TINY, params)
    alone, whole = load_model(str(folder / "model.safetensors")), load_model(str(folder))
    assert_same(alone.params, params)
    assert alone.sha256 == whole.sha256
    write_hf(tmp_path / "other", TINY, random_tree(TINY, seed=1))
    assert load_model(str(tmp_path / "other")).sha256 != whole.sha256


@pytest.mark.parametrize("kind", [Q.Q4_0, Q.Q4_1, Q.Q8_0, Q.F16, Q.BF16, Q.Q5_1], ids=lambda k: k.name)
def test_quantised_tensors_match_the_reference_dequantiser(tmp_path, kind):
    params = random_tree(TINY)
    names = [
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_v.weight",
        "blk.0.ffn_down.weight",
        "blk.1.ffn_up.weight",
    ]
    kinds = dict.fromkeys(names, kind)
    _, loaded, _ = load_gguf(write_gguf(tmp_path / "m.gguf", TINY, params, kinds=kinds))
    expected = rounded(TINY, params, kinds)
    assert_same(loaded, expected)
    assert not np.array_equal(loaded["embed"], params["embed"])


def test_rotary_order_round_trip():
    rows = np.arange(6 * 20 * 3).reshape(120, 3)
    assert np.array_equal(half_split_rows(interleaved_rows(rows, 20), 20), rows)
    one = interleaved_rows(np.arange(8)[:, None], 8)[:, 0]
    assert one.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_newer_rope_parameters_key(tmp_path):
    folder = write_hf(tmp_path / "hf", LLAMA3, random_tree(LLAMA3))
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    raw["rope_parameters"] = {**raw.pop("rope_scaling"), "rope_theta": raw.pop("rope_theta")}
    path.write_text(json.dumps(raw))
    assert load_safetensors(folder)[0] == LLAMA3


def test_bos_is_added_only_where_the_metadata_says_so(tmp_path):
    params = random_tree(TINY)
    with_bos = write_gguf(tmp_path / "bos.gguf", TINY, params, meta={"tokenizer.ggml.add_bos_token": True})
    assert load_gguf(with_bos)[2].encode("a")[0] == 261
    assert load_gguf(write_gguf(tmp_path / "no.gguf", TINY, params))[2].prefix == ()


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("llama-bpe", "in 12345", ["in", "Ġ", "1", "2", "3", "4", "5"]),
        ("gpt-2", "in the", ["in", "Ġthe"]),
        ("default", "the, the", ["t", "he", ",", "Ġthe"]),
    ],
)
def test_ways_of_cutting(tmp_path, pre, text, pieces):
    path = write_gguf(
        tmp_path / "m.gguf", TINY, random_tree(TINY), pre=pre, meta={"tokenizer.ggml.add_bos_token": False}
    )
    tokenizer = load_gguf(path)[2]
    ids = tokenizer.encode(text)
    assert [tokenizer._tokenizer.id_to_token(i) for i in ids] == pieces
    assert tokenizer.decode(ids) == text


REFUSED_GGUF = {
    "another architecture": ({"arch": "qwen2"}, "qwen2"),
    "yarn": ({"meta": {"llama.rope.scaling.type": "yarn"}}, "yarn"),
    "linear": ({"meta": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}}, "linear"),
    "experts": ({"meta": {"llama.expert_count": 8}}, "experts"),
    "a part": ({"meta": {"split.count": 3}}, "split"),
    "odd factors": ({"extra": {"rope_freqs.weight": np.linspace(1, 3, 10).astype("f4")}}, "rope_freqs.weight"),
    "a bias": ({"extra": {"blk.0.attn_q.bias": np.ones(120, "f4")}}, "blk.0.attn_q.bias"),
    "no tensor": ({"drop": ["blk.1.ffn_up.weight"]}, "blk.1.ffn_up.weight"),
    "wrong shape": ({"extra": {"blk.1.ffn_up.weight": np.ones((3, 4), "f4")}}, r"blk\.1\.ffn_up\.weight .* shape"),
    "partial rotation": ({"meta": {"llama.rope.dimension_count": 10}}, "rope.dimension_count"),
    "unknown cutting": ({"pre": "qwen2"}, "qwen2"),
    "sentencepiece": ({"meta": {"tokenizer.ggml.model": "llama"}}, "tokenizer"),
    "head count of another type": ({"meta": {"llama.attention.head_count": "six"}}, "head_count"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("override", "word"), REFUSED_GGUF.values(), ids=REFUSED_GGUF.keys())
def test_gguf_that_would_not_be_computed_rightly(tmp_path, override, word):
    path = write_gguf(tmp_path / "m.gguf", TINY, random_tree(TINY), **override)
    with pytest.raises(ThinwireError, match=word):
        load_gguf(path)


REFUSED_HF = {
    "another model": ({"model_type": "mistral"}, "mistral"),
    "attention bias": ({"attention_bias": True}, "attention_bias"),
    "mlp bias": ({"mlp_bias": True}, "mlp_bias"),
    "gelu": ({"hidden_act": "gelu"}, "gelu"),
    "yarn": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    "old linear": ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
    "quantised": ({"quantization_config": {"bits": 4}}, "GGUF"),
    "a text for a number": ({"hidden_size": "96"}, "hidden_size"),
    "no width": ({"hidden_size": None}, "hidden_size"),
    "heads that do not group": ({"num_key_value_heads": 4}, "4 key/value heads"),
    "no layers": ({"num_hidden_layers": 0}, "count of layers"),
    "a missing layer": ({"num_hidden_layers": 3}, r"model\.layers\.2"),
    "a huge count of layers": ({"num_hidden_layers": 10**12}, r"model\.layers\.2"),
    "another vocabulary": ({"vocab_size": 301}, "embed_tokens"),
    "untied without head": ({"tie_word_embeddings": False}, "lm_head"),
}


@pytest.mark.parametrize(("extra", "word"), REFUSED_HF.values(), ids=REFUSED_HF.keys())
def test_config_json_that_would_not_be_computed_rightly(tmp_path, extra, word):
    folder = write_hf(tmp_path / "hf", TINY, random_tree(TINY), **extra)
    with pytest.raises(ThinwireError, match=word):
        load_safetensors(folder)


def test_scaling_factors_follow_the_published_rule():
    """Against the formula of the Llama 3.1 release, written out case by case."""
    scaling = RopeScaling(8.0, 1.0, 4.0, 8192)
    for i, factor in enumerate(llama3_factors(scaling, 5e5, 128)):
        wavelength = 2 * np.pi * 5e5 ** (2 * i / 128)
        if wavelength < 8192 / 4:
            expected = 1.0
        elif wavelength > 8192:
            expected = 8.0
        else:
            smooth = (8192 / wavelength - 1) / 3
            expected = 1 / ((1 - smooth) / 8 + smooth)
        assert factor == pytest.approx(expected)


def test_old_files_name_their_scaling_by_type(tmp_path):
    config = dataclasses.replace(LLAMA3, rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192))
    path = write_gguf(tmp_path / "m.gguf", config, random_tree(config), extra=factors(config))
    assert load_gguf(path)[0].rope_scaling == config.rope_scaling
