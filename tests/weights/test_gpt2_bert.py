"""Hugging Face's files of GPT-2 and BERT give the model back, whatever stands before and beside its tensors."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from thinwire.errors import ThinwireError
from thinwire.weights.assemble import Format, Place, Source, assemble, linear
from thinwire.weights.huggingface import HUGGING_FACE
from thinwire.weights.load import load_model
from thinwire.weights.safetensors import load_safetensors
from thinwire.weights.tokenizer import from_tokenizer_json
from weights.biased_checkpoints import BERT_TINY, GPT2_TINY, bert_tensors, gpt2_tensors, random_tree, write
from weights.checkpoints import assert_same


@pytest.mark.parametrize("config", [GPT2_TINY, BERT_TINY], ids=["gpt2", "bert"])
def test_the_model_comes_back(tmp_path, config):
    params = random_tree(config)
    model = load_model(str(write(tmp_path / "hf", config, params)))
    assert model.config == config
    assert model.family == config.family
    assert_same(model.params, params)


def test_what_stands_before_and_beside_gpt2(tmp_path):
    """Models with a head put a prefix before all names, and older files keep masks and the tied head."""
    params = random_tree(GPT2_TINY)
    tensors = {f"transformer.{name}": array for name, array in gpt2_tensors(GPT2_TINY, params).items()}
    tensors["lm_head.weight"] = params["embed"]
    tensors["transformer.h.0.attn.bias"] = np.ones((1, 1, 64, 64), np.uint8)
    tensors["transformer.h.1.attn.masked_bias"] = np.array(-1e4, np.float64)
    assert_same(load_safetensors(write(tmp_path / "hf", GPT2_TINY, params, tensors))[1], params)


def test_what_stands_before_and_beside_bert(tmp_path):
    """A prefix, old names of norms' arrays, positions as a buffer, heads behind the encoder."""
    params = random_tree(BERT_TINY)
    old = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    tensors = {f"bert.{old(name)}": array for name, array in bert_tensors(BERT_TINY, params).items()}
    tensors["bert.embeddings.position_ids"] = np.arange(64)[None]
    tensors["bert.pooler.dense.weight"] = np.ones((24, 24), "f4")
    tensors["cls.predictions.bias"] = np.ones(300, "f4")
    assert_same(load_safetensors(write(tmp_path / "hf", BERT_TINY, params, tensors))[1], params)


REFUSED = {
    "gelu": (GPT2_TINY, {"activation_function": "relu"}, "sets activation_function to 'relu', and only 'gelu_new'"),
    "unscaled": (GPT2_TINY, {"scale_attn_weights": False}, "scale_attn_weights"),
    "by layer": (GPT2_TINY, {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer"),
    "untied": (GPT2_TINY, {"tie_word_embeddings": False}, "tie_word_embeddings"),
    "heads": (GPT2_TINY, {"n_head": 5}, "width of 24, which its 5 heads do not divide"),
    "no heads": (GPT2_TINY, {"n_head": 0}, "count of heads of 0"),
    "a text for a number": (GPT2_TINY, {"n_layer": "two"}, "needs a number for n_layer"),
    "a missing layer": (GPT2_TINY, {"n_layer": 3}, r"lacks the tensor h\.2\.ln_1.* not a plain GPT-2"),
    "another vocabulary": (GPT2_TINY, {"vocab_size": 301}, r"wte\.weight .* shape \(300, 24\) where .* \(301, 24\)"),
    "another width": (GPT2_TINY, {"n_embd": 48, "n_inner": 40}, r"wte\.weight .* shape"),
    "relative positions": (BERT_TINY, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    "a decoder": (BERT_TINY, {"is_decoder": True}, "is_decoder"),
    "tanh": (BERT_TINY, {"hidden_act": "gelu_new"}, "hidden_act"),
    "one layer less": (BERT_TINY, {"num_hidden_layers": 1}, r"encoder\.layer\.1\..* \(and 15 more\)"),
    "another family": (BERT_TINY, {"model_type": "roberta"}, "type 'roberta'; supported are llama, gpt2, bert"),
}


@pytest.mark.parametrize(("config", "extra", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_not_be_computed_rightly_is_refused(tmp_path, config, extra, words):
    folder = write(tmp_path / "hf", config, random_tree(config), **extra)
    with pytest.raises(ThinwireError, match=words) as error:
        load_safetensors(folder)
    assert "\n" not in str(error.value)


def test_damaged_tensors_are_named(tmp_path):
    params = random_tree(GPT2_TINY)
    params["layers"]["wk"][1, 3, 1, 7] = np.nan
    with pytest.raises(ThinwireError, match=r"tensor h\.1\.attn\.c_attn\.weight .* NaN"):
        load_safetensors(write(tmp_path / "a", GPT2_TINY, params))
    tensors = gpt2_tensors(GPT2_TINY, random_tree(GPT2_TINY))
    tensors["h.0.attn.c_attn.bias"] = tensors["h.0.attn.c_attn.bias"][:-3]
    with pytest.raises(ThinwireError, match=r"c_attn\.bias .* shape \(69,\) where its configuration needs \(72,\)"):
        load_safetensors(write(tmp_path / "b", GPT2_TINY, params, tensors))
    twice = {**tensors, "transformer.wte.weight": tensors["wte.weight"]}
    with pytest.raises(ThinwireError, match="which are one tensor: keep one of them"):
        load_safetensors(write(tmp_path / "c", GPT2_TINY, params, twice))


def test_a_source_that_is_no_file():
    """Tensors may come from anywhere, in any order and type, if they can be named and read."""
    params = random_tree(BERT_TINY)
    tensors = {name: array.astype("f8") for name, array in bert_tensors(BERT_TINY, params).items()}
    source = Source(Path("memory"), {name: array.shape for name, array in tensors.items()}, tensors.__getitem__)
    assert_same(assemble(BERT_TINY, HUGGING_FACE["bert"].format(BERT_TINY), source), params)


def test_a_tensor_of_several_arrays_one_below_the_other():
    """As files hold them whose matrices are (out, in): queries, keys and values along the first axis."""
    params = random_tree(BERT_TINY)
    tensors = bert_tensors(BERT_TINY, params)
    form = HUGGING_FACE["bert"].format(BERT_TINY)
    places = dict(form.places)
    for i, (which, name) in enumerate(zip("qkv", ("query", "key", "value"), strict=True)):
        for kind, end in (("w", "weight"), ("b", "bias")):
            places[f"{kind}{which}"] = Place(f"layer.{{}}.qkv.{end}", linear, (i, 3))
            for layer in range(BERT_TINY.L):
                part = tensors.pop(f"encoder.layer.{layer}.attention.self.{name}.{end}")
                fused = tensors.get(f"layer.{layer}.qkv.{end}")
                tensors[f"layer.{layer}.qkv.{end}"] = part if fused is None else np.concatenate([fused, part])
    source = Source(Path("memory"), {name: array.shape for name, array in tensors.items()}, tensors.__getitem__)
    assert_same(assemble(BERT_TINY, Format("BERT", places), source), params)


def test_texts_stand_between_what_the_tokenizer_puts_around_them(tmp_path):
    words = ["[UNK]", "[CLS]", "[SEP]", "a", "b"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = from_tokenizer_json(tmp_path / "tokenizer.json")
    assert (found.prefix, found.suffix) == ((1,), (2,))
    assert found.encode("a b b a") == [1, 3, 4, 4, 3, 2]
    assert found.encode_batch(["a", "b b"]) == [[3], [4, 4]]
    # What ends a text is not put behind one that is to be continued.
    assert from_tokenizer_json(tmp_path / "tokenizer.json", [2]).suffix == ()
