"""Our GPT-2 and BERT against Hugging Face's in PyTorch: the same files in, the same outputs out, to 1e-4 in float32.

Needs torch and transformers, so it is run by `make parity`, not by `make test`.
"""

import numpy as np
import pytest

from thinwire.engine import Engine
from thinwire.evaluation.embeddings import sentence_embedding
from thinwire.strategies import Single
from thinwire.weights.catalogue import MODELS
from thinwire.weights.fetch import fetch
from thinwire.weights.load import load_model
from weights.checkpoints import write_tokenizer_json

torch = pytest.importorskip("torch", reason="run by `make parity`")
transformers = pytest.importorskip("transformers", reason="run by `make parity`")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TOLERANCE = 1e-4
GPT2 = {
    "n_embd": 72,
    "n_layer": 3,
    "n_head": 9,
    "n_inner": 100,
    "vocab_size": 300,
    "n_positions": 160,
    "initializer_range": 0.15,  # large enough for attention to be far from uniform
    "attn_implementation": "eager",
}
BERT = {
    "hidden_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "intermediate_size": 100,
    "vocab_size": 300,
    "max_position_embeddings": 160,
    "initializer_range": 0.15,
    "attn_implementation": "eager",
}
SENTENCES = ["A river flows through the old town.", "The naïve café-owner paid 1,234 dollars; nobody asked why!"]


def stirred(model):
    """In place of zero biases and unit gains, which could be ignored unseen."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "ln_" in name or "LayerNorm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def loaded(model, folder, **options):
    model.save_pretrained(folder, **options)
    write_tokenizer_json(folder / "tokenizer.json", model.config.vocab_size)
    return load_model(str(folder))


def largest_difference(a, b) -> float:
    assert a.shape == b.shape
    assert b.std() > 0.3
    return float(np.abs(np.asarray(a) - b).max())


def token_ids(tokens=150):
    return np.random.default_rng(0).integers(0, 300, tokens).astype(np.int32)


def as_batch(ids):
    return torch.from_numpy(np.asarray(ids, np.int64))[None]


@pytest.mark.parametrize("options", [{}, {"n_inner": None, "n_head": 4, "layer_norm_epsilon": 1e-3}])
def test_random_gpt2(tmp_path, options):
    torch.manual_seed(0)
    model = stirred(transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**GPT2, **options})))
    with torch.no_grad():
        expected = model(as_batch(token_ids())).logits[0].numpy()
    found = Engine(loaded(model, tmp_path / "hf", max_shard_size="100KB"), Single()).logits(token_ids())
    assert largest_difference(found, expected) <= TOLERANCE


@pytest.mark.parametrize("kind", ["GPT2Model", "BertModel", "BertForMaskedLM"])
def test_random_models_with_and_without_heads(tmp_path, kind):
    """With a head all names have a prefix, and there are tensors that are not the encoder's."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(**GPT2) if kind == "GPT2Model" else transformers.BertConfig(**BERT)
    model = stirred(getattr(transformers, kind)(config))
    with torch.no_grad():
        bare = getattr(model, "bert", model)
        expected = bare(as_batch(token_ids())).last_hidden_state[0].numpy()
    ours = loaded(model, tmp_path / "hf")
    if kind == "GPT2Model":
        expected = expected @ ours.params["embed"].T
    assert largest_difference(Engine(ours, Single()).logits(token_ids()), expected) <= TOLERANCE


def test_minilm():
    """The real checkpoint and its tokenizer: the same ids, features and embeddings of two sentences."""
    folder = fetch(MODELS["minilm-l6"]).parent
    theirs = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_model("minilm-l6")
    engine = Engine(ours, Single())
    for sentence in SENTENCES:
        ids = ours.tokenizer.encode(sentence)
        assert ids == tokenizer(sentence)["input_ids"]
        with torch.no_grad():
            expected_TD = theirs(as_batch(ids)).last_hidden_state[0].numpy()
        found_TD = engine.logits(np.array(ids, np.int32))
        assert largest_difference(found_TD, expected_TD) <= TOLERANCE
        assert sentence_embedding(found_TD) @ sentence_embedding(expected_TD) == pytest.approx(1, abs=1e-6)
