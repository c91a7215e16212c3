"""Tiny random GPT-2s and BERTs, written as Hugging Face folders by code that is independent of the readers."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from thinwire.models.bert_config import BertConfig
from thinwire.models.families import FAMILIES
from thinwire.models.gpt2_config import GPT2Config
from weights.checkpoints import write_tokenizer_json

GPT2_TINY = GPT2Config(D=24, L=2, H=3, F=40, V=300, context=64)
BERT_TINY = BertConfig(D=24, L=2, H=3, F=40, V=300, context=64, norm_eps=1e-6)


def random_tree(config, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)

    def make(shapes):
        return {k: make(v) if isinstance(v, dict) else rng.normal(0, 0.5, v).astype("f4") for k, v in shapes.items()}

    return make(FAMILIES[config.family].param_shapes(config))


def gpt2_tensors(c: GPT2Config, params: dict) -> dict[str, np.ndarray]:
    """Conv1D matrices are (in, out)."""
    out = {"wte.weight": params["embed"], "wpe.weight": params["positions"]}
    out |= {"ln_f.weight": params["final_norm"], "ln_f.bias": params["final_norm_bias"]}
    for i in range(c.L):
        w = {name: stack[i] for name, stack in params["layers"].items()}
        named = {
            "ln_1.weight": w["attn_norm"],
            "ln_1.bias": w["attn_norm_bias"],
            "attn.c_attn.weight": np.concatenate([w[n].reshape(c.D, c.D) for n in ("wq", "wk", "wv")], axis=1),
            "attn.c_attn.bias": np.concatenate([w[n].reshape(c.D) for n in ("bq", "bk", "bv")]),
            "attn.c_proj.weight": w["wo"].reshape(c.D, c.D),
            "attn.c_proj.bias": w["bo"],
            "ln_2.weight": w["mlp_norm"],
            "ln_2.bias": w["mlp_norm_bias"],
            "mlp.c_fc.weight": w["w_up"],
            "mlp.c_fc.bias": w["b_up"],
            "mlp.c_proj.weight": w["w_down"],
            "mlp.c_proj.bias": w["b_down"],
        }
        out |= {f"h.{i}.{name}": array for name, array in named.items()}
    return out


def bert_tensors(c: BertConfig, params: dict) -> dict[str, np.ndarray]:
    """Linear matrices are (out, in)."""
    out = {
        "embeddings.word_embeddings.weight": params["embed"],
        "embeddings.position_embeddings.weight": params["positions"],
        "embeddings.token_type_embeddings.weight": params["types"],
        "embeddings.LayerNorm.weight": params["embed_norm"],
        "embeddings.LayerNorm.bias": params["embed_norm_bias"],
    }
    for i in range(c.L):
        w = {name: stack[i] for name, stack in params["layers"].items()}
        named = {
            "attention.self.query.weight": w["wq"].reshape(c.D, c.D).T,
            "attention.self.query.bias": w["bq"].reshape(c.D),
            "attention.self.key.weight": w["wk"].reshape(c.D, c.D).T,
            "attention.self.key.bias": w["bk"].reshape(c.D),
            "attention.self.value.weight": w["wv"].reshape(c.D, c.D).T,
            "attention.self.value.bias": w["bv"].reshape(c.D),
            "attention.output.dense.weight": w["wo"].reshape(c.D, c.D).T,
            "attention.output.dense.bias": w["bo"],
            "attention.output.LayerNorm.weight": w["attn_norm"],
            "attention.output.LayerNorm.bias": w["attn_norm_bias"],
            "intermediate.dense.weight": w["w_up"].T,
            "intermediate.dense.bias": w["b_up"],
            "output.dense.weight": w["w_down"].T,
            "output.dense.bias": w["b_down"],
            "output.LayerNorm.weight": w["mlp_norm"],
            "output.LayerNorm.bias": w["mlp_norm_bias"],
        }
        out |= {f"encoder.layer.{i}.{name}": array for name, array in named.items()}
    return out


def gpt2_json(c: GPT2Config) -> dict:
    return {
        "model_type": "gpt2", "n_embd": c.D, "n_layer": c.L, "n_head": c.H, "n_inner": c.F, "vocab_size": c.V,
        "n_positions": c.context, "layer_norm_epsilon": c.norm_eps, "activation_function": "gelu_new",
        "eos_token_id": c.V - 1,
    }  # fmt: skip


def bert_json(c: BertConfig) -> dict:
    return {
        "model_type": "bert", "hidden_size": c.D, "num_hidden_layers": c.L, "num_attention_heads": c.H,
        "intermediate_size": c.F, "vocab_size": c.V, "max_position_embeddings": c.context,
        "type_vocab_size": c.types, "layer_norm_eps": c.norm_eps, "hidden_act": "gelu",
    }  # fmt: skip


def write(folder: Path, config, params: dict, tensors: dict | None = None, **extra) -> Path:
    """A folder as ``save_pretrained`` writes it; ``tensors`` instead of the tree's; ``extra`` goes into config.json."""
    raw, named = {"gpt2": (gpt2_json, gpt2_tensors), "bert": (bert_json, bert_tensors)}[config.family]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**raw(config), **extra}))
    write_tokenizer_json(folder / "tokenizer.json", config.V)
    arrays = named(config, params) if tensors is None else tensors
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
