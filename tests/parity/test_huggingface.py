"""Our Llama against Hugging Face's in PyTorch: the same files in, the same logits out, to 1e-3 in float32.

Needs torch and transformers, so it is run by `make parity`, not by `make test`.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.data.wikipedia import documents
from thinwire.data.windows import windows
from thinwire.models.llama import logits
from thinwire.weights.catalogue import MODELS
from thinwire.weights.fetch import fetch
from thinwire.weights.gguf import load_gguf
from thinwire.weights.load import load_model
from thinwire.weights.safetensors import load_safetensors
from weights.checkpoints import write_gguf, write_tokenizer_json

torch = pytest.importorskip("torch", reason="run by `make parity`")
transformers = pytest.importorskip("transformers", reason="run by `make parity`")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TOLERANCE = 1e-3
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

BASE = {
    "hidden_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 100,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "initializer_range": 0.15,  # large enough for attention to be far from uniform
    "attn_implementation": "eager",
}

CONFIGS = {
    "grouped queries 9/3": {},
    "untied": {"tie_word_embeddings": False},
    "every head its own keys": {"num_key_value_heads": 9},
    "one key head": {"num_key_value_heads": 1},
    "head width 20": {"head_dim": 20},
    "rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
    # Wavelengths of heads of width 64 fall on both sides of the original context, and between.
    "llama3 scaling": {
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_parameters": {**LLAMA3, "rope_theta": 5e5},
    },
    # Original context short enough for the scaling to matter within the test's tokens.
    "llama3 scaling, felt": {
        "head_dim": 32,
        "rope_parameters": {**LLAMA3, "rope_theta": 1e4, "original_max_position_embeddings": 64},
    },
}


def theirs(model, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].float().numpy()


def largest_difference(a, b) -> float:
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - b).max())


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 300, 150).astype(np.int32)


def make(options) -> "transformers.LlamaForCausalLM":
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**BASE, **options})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones as initialised: a gain that is ignored would go unseen
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    write_tokenizer_json(folder / "tokenizer.json", model.config.vocab_size)
    return folder


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS.keys())
def test_random_models(tmp_path, ids, options):
    model = make(options)
    config, params, _ = load_safetensors(saved(model, tmp_path / "hf"))
    expected = theirs(model, ids)
    assert expected.std() > 0.5
    assert largest_difference(logits(params, config, jnp.asarray(ids)), expected) <= TOLERANCE


def test_scaling_is_felt(tmp_path, ids):
    """The control: without the scaling, the same weights give other logits."""
    scaled = make(CONFIGS["llama3 scaling, felt"])
    plain = make({"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})
    assert largest_difference(theirs(scaled, ids), theirs(plain, ids)) > 0.1


def test_sharded_bfloat16(tmp_path, ids):
    model = make({"tie_word_embeddings": False}).to(torch.bfloat16)
    folder = saved(model, tmp_path / "hf", max_shard_size="50KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    config, params, _ = load_safetensors(folder)
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert largest_difference(logits(params, config, jnp.asarray(ids)), theirs(model, ids)) <= TOLERANCE


def test_random_model_through_gguf(tmp_path, ids):
    """Rotary pairs as llama.cpp stores them, read by transformers' own GGUF reader and by ours."""
    config, params, _ = load_safetensors(saved(make({"num_key_value_heads": 3}), tmp_path / "hf"))
    write_gguf(tmp_path / "m.gguf", config, params)
    config, params, _ = load_gguf(tmp_path / "m.gguf")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    assert largest_difference(logits(params, config, jnp.asarray(ids)), theirs(model, ids)) <= TOLERANCE


def test_smollm2():
    """The real checkpoint, which transformers reads by its own way through GGUF."""
    path = fetch(MODELS["smollm2-135m"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ours = load_model("smollm2-135m")
    ids = windows(documents("test"), ours.tokenizer, 256, 1, seed=0)[0]
    assert largest_difference(logits(ours.params, ours.config, jnp.asarray(ids)), theirs(model, ids)) <= TOLERANCE
