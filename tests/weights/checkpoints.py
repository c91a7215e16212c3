"""Tiny random Llamas, written as GGUF and as Hugging Face folders by code that is independent of the readers."""

import dataclasses
import json
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from thinwire.models.llama_config import LlamaConfig, RopeScaling, param_shapes
from thinwire.weights.llama_names import GGUF, HUGGING_FACE

TINY = LlamaConfig(D=96, L=2, H=6, K=2, d=20, F=128, V=300, context=64, rope_theta=1e4, norm_eps=1e-5, tied=True)
UNTIED = dataclasses.replace(TINY, tied=False, d=16)
LLAMA3 = dataclasses.replace(TINY, context=131072, rope_theta=5e5, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192))


def random_tree(config: LlamaConfig, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)

    def make(shapes):
        return {k: make(v) if isinstance(v, dict) else rng.normal(0, 0.05, v).astype("f4") for k, v in shapes.items()}

    return make(param_shapes(config))


def stored(config: LlamaConfig, params: dict, names: dict[str, str]) -> dict[str, np.ndarray]:
    """The tree under a format's names, each matrix as (out, in)."""
    out = {names["embed"]: params["embed"], names["final_norm"]: params["final_norm"]}
    if not config.tied:
        out[names["head"]] = np.ascontiguousarray(params["head"].T)
    for layer in range(config.L):
        for leaf, stack in params["layers"].items():
            a = stack[layer]
            if leaf == "wo":
                a = a.reshape(-1, config.D).T
            elif a.ndim > 1:
                a = a.reshape(config.D if leaf != "w_down" else config.F, -1).T
            out[names[leaf].format(layer)] = np.ascontiguousarray(a)
    return out


def vocabulary(size: int) -> tuple[list[str], list[str], list[int]]:
    """Tokens, merges and GGUF token types: the 256 bytes, a few merges, then control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["Ġ t", "h e", "Ġt he", "i n", "e r"]
    words = [m.replace(" ", "") for m in merges]
    control = ["<|endoftext|>", "<|im_end|>"]
    spare = [f"<|spare_{i}|>" for i in range(size - 256 - len(words) - len(control))]
    return [*alphabet, *words, *control, *spare], merges, [1] * (256 + len(words)) + [3] * (len(control) + len(spare))


def write_gguf(path: Path, config: LlamaConfig, params: dict, **override) -> Path:
    """A GGUF file as llama.cpp's converter writes it: queries and keys in rotary pairs.

    ``override`` may set ``arch``, ``meta`` (added or replaced keys), ``pre``, ``kinds`` (quantisation by name),
    ``extra`` (tensors added), ``drop`` (names left out).
    """
    c = config
    writer = gguf.GGUFWriter(path, override.get("arch", "llama"))
    writer.add_block_count(c.L)
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.D)
    writer.add_feed_forward_length(c.F)
    writer.add_head_count(c.H)
    writer.add_head_count_kv(c.K)
    writer.add_key_length(c.d)
    writer.add_value_length(c.d)
    writer.add_rope_dimension_count(c.d)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    tokens, merges, types = vocabulary(c.V)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(override.get("pre", "smollm"))
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types(types)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    for key, value in override.get("meta", {}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    arrays = stored(c, params, GGUF)
    for name in arrays:
        if "attn_q." in name or "attn_k." in name:  # as in llama.cpp's convert_hf_to_gguf.py
            w = arrays[name]
            heads = w.shape[0] // c.d
            arrays[name] = w.reshape(heads, 2, c.d // 2, c.D).swapaxes(1, 2).reshape(w.shape)
    arrays |= override.get("extra", {})
    for name, array in arrays.items():
        kind = override.get("kinds", {}).get(name)
        if name in override.get("drop", ()):
            continue
        if kind is None:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rounded(config: LlamaConfig, params: dict, kinds: dict) -> dict:
    """The tree after its matrices went through the quantisations ``kinds`` (by GGUF name)."""
    tree = {k: v for k, v in params.items() if k != "layers"}
    tree["layers"] = {k: v.copy() for k, v in params["layers"].items()}
    leaves = {name.format(i): (leaf, i) for leaf, name in GGUF.items() for i in range(config.L)}
    for name, kind in kinds.items():
        leaf, layer = leaves[name]
        rows = stored(config, params, GGUF)[name]
        back = dequantize(quantize(rows, kind), kind)
        if leaf == "embed":
            tree["embed"] = back
        else:
            tree["layers"][leaf][layer] = back.T.reshape(tree["layers"][leaf][layer].shape)
    return tree


def hf_config(config: LlamaConfig, **extra) -> dict:
    c = config
    raw = {
        "model_type": "llama", "hidden_size": c.D, "num_hidden_layers": c.L, "num_attention_heads": c.H,
        "num_key_value_heads": c.K, "head_dim": c.d, "intermediate_size": c.F, "vocab_size": c.V,
        "max_position_embeddings": c.context, "rope_theta": c.rope_theta, "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tied, "hidden_act": "silu", "eos_token_id": c.V - 1,
    }  # fmt: skip
    if c.rope_scaling:
        s = c.rope_scaling
        raw["rope_scaling"] = {
            "rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low_freq_factor,
            "high_freq_factor": s.high_freq_factor, "original_max_position_embeddings": s.original_context,
        }  # fmt: skip
    return {**raw, **extra}


def write_hf(folder: Path, config: LlamaConfig, params: dict, shards: int = 1, dtype="float32", **extra) -> Path:
    """A folder as ``save_pretrained`` writes it; ``extra`` goes into config.json. dtype ``bfloat16`` truncates."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(config, **extra)))
    write_tokenizer_json(folder / "tokenizer.json", config.V)
    arrays = stored(config, params, HUGGING_FACE)
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    arrays = {k: v.astype(dtype) for k, v in arrays.items()}
    if shards == 1:
        safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    table = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(arrays)}
    for file in sorted(set(table.values())):
        safetensors.numpy.save_file({k: v for k, v in arrays.items() if table[k] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder


def write_tokenizer_json(path: Path, size: int) -> None:
    tokens, merges, types = vocabulary(size)
    pairs = [tuple(m.split(" ")) for m in merges]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types, strict=True) if kind == 3])
    tokenizer.save(str(path))


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key in a:
        if isinstance(a[key], dict):
            assert_same(a[key], b[key])
        else:
            assert a[key].dtype == b[key].dtype == np.float32
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
