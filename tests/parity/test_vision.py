"""Our vision Transformers against Hugging Face's in PyTorch (to 1e-4) and against onnxruntime (to 1e-3).

Needs torch, transformers and onnxruntime, so it is run by `make parity`, not by `make test`.
"""

import jax
import numpy as np
import pytest

from thinwire.data.images import labelled_images, normalised, square
from thinwire.models import vit
from thinwire.models.vit_positions import resized
from thinwire.weights.catalogue import MODELS
from thinwire.weights.fetch import fetch
from thinwire.weights.load import load_model
from thinwire.weights.safetensors import load_safetensors

torch = pytest.importorskip("torch", reason="run by `make parity`")
transformers = pytest.importorskip("transformers", reason="run by `make parity`")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SIZES = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 40, "patch_size": 8}
OURS = jax.jit(vit.features, static_argnums=1)


def make(kind, config_kind, **options):
    """A random model whose every parameter is felt."""
    torch.manual_seed(0)
    model = kind(config_kind(**SIZES, **options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = ("norm" in name and "weight" in name) or "lambda" in name
            parameter.copy_(gain + (0.3 if gain or "bias" in name else 0.15) * torch.randn_like(parameter))
    return model


def pixels(high: int, wide: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((high, wide, 3), np.float32)


def theirs(model, image_YXC, **options):
    with torch.no_grad():
        return model(torch.from_numpy(image_YXC.transpose(2, 0, 1))[None], **options)


def test_a_random_vit(tmp_path):
    model = make(transformers.ViTModel, transformers.ViTConfig, intermediate_size=100)
    model.save_pretrained(tmp_path)
    config, params, tokenizer = load_safetensors(tmp_path)
    assert tokenizer is None
    expected = theirs(model, pixels(40, 40)).last_hidden_state[0].numpy()
    assert expected.std() > 0.5
    found = OURS(params, config, vit.patches(pixels(40, 40), 8))
    assert np.abs(found - expected).max() <= 1e-4
    other = theirs(model, pixels(64, 24), interpolate_pos_encoding=True).last_hidden_state[0].numpy()
    config, params = resized(config, params, (8, 3))
    assert np.abs(OURS(params, config, vit.patches(pixels(64, 24), 8)) - other).max() <= 1e-4


def test_a_random_classifier(tmp_path):
    options = {"intermediate_size": 100, "num_labels": 5}
    model = make(transformers.ViTForImageClassification, transformers.ViTConfig, **options)
    model.save_pretrained(tmp_path)
    config, params, _ = load_safetensors(tmp_path)
    expected = theirs(model, pixels(40, 40)).logits[0].numpy()
    found = vit.classify(params, np.asarray(OURS(params, config, vit.patches(pixels(40, 40), 8))))
    assert expected.std() > 0.5
    assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.parametrize(("high", "wide"), [(40, 40), (72, 72), (24, 56)])
def test_a_random_dinov2(tmp_path, high, wide):
    """At its own size, at a larger one and at an oblong one: positions are resized as theirs."""
    model = make(transformers.Dinov2Model, transformers.Dinov2Config, mlp_ratio=2)
    model.save_pretrained(tmp_path)
    config, params, _ = load_safetensors(tmp_path)
    config, params = resized(config, params, (high // 8, wide // 8))
    expected = theirs(model, pixels(high, wide)).last_hidden_state[0].numpy()
    assert np.abs(OURS(params, config, vit.patches(pixels(high, wide), 8)) - expected).max() <= 1e-4


def test_the_real_one_against_onnxruntime():
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    proto = onnx.load(fetch(MODELS["vit-s14-focus"]))
    features = onnx.ValueInfoProto(name="/backbone/layernorm/Add_1_output_0")  # behind the last norm
    proto.graph.output.append(features)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    model = load_model("vit-s14-focus")
    config, params = resized(model.config, model.params, (16, 16))
    for image in labelled_images("test")[:2]:
        image_YXC = normalised(square(image.pixels, 224))
        batch = {"input_image": image_YXC.transpose(2, 0, 1)[None]}
        expected = session.run([features.name], batch)[0][0]
        assert expected.shape == (257, 384)
        assert np.abs(OURS(params, config, vit.patches(image_YXC, 14)) - expected).max() <= 1e-3
