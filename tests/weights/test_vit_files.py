"""Vision Transformers out of files that are written here: Hugging Face's safetensors and an ONNX export."""

import dataclasses
import json
import sys

import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import helper, numpy_helper

from thinwire.errors import ThinwireError
from thinwire.models import vit
from thinwire.models.vit_config import ViTConfig
from thinwire.weights.load import for_tokens, load_model
from thinwire.weights.safetensors import load_safetensors

VIT = ViTConfig(D=24, L=2, H=4, F=40, patch=2, grid=(3, 3), classes=5)
DINOV2 = ViTConfig(D=128, L=2, H=2, F=512, patch=2, grid=(3, 3), norm_eps=1e-6, layer_scale=True)
MODULES = {
    "wq": "attention.attention.query", "wk": "attention.attention.key", "wv": "attention.attention.value",
    "wo": "attention.output.dense",
}  # fmt: skip
OF_VIT = {
    "attn_norm": "layernorm_before", "mlp_norm": "layernorm_after", "w_up": "intermediate.dense",
    "w_down": "output.dense",
}  # fmt: skip
OF_DINOV2 = {"attn_norm": "norm1", "mlp_norm": "norm2", "w_up": "mlp.fc1", "w_down": "mlp.fc2"}
JSON = {
    "model_type": "vit", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "patch_size": 2, "image_size": 6, "architectures": ["ViTForImageClassification"],
    "id2label": {str(i): f"class {i}" for i in range(5)},
}  # fmt: skip


def random_tree(config: ViTConfig) -> dict:
    rng = np.random.default_rng(0)
    draw = lambda shapes: {
        name: draw(shape) if isinstance(shape, dict) else rng.normal(0, 0.3, shape).astype("f4")
        for name, shape in shapes.items()
    }
    return draw(vit.param_shapes(config))


def stored(config: ViTConfig, params: dict) -> dict[str, np.ndarray]:
    """The tree as Hugging Face stores it: matrices (out, in)."""
    out = {
        "embeddings.cls_token": params["class_token"][None, None],
        "embeddings.position_embeddings": params["positions"][None],
        # Values of a patch: by channel, row, column.
        "embeddings.patch_embeddings.projection.weight": params["patch"].T.reshape(config.D, 3, 2, 2),
        "embeddings.patch_embeddings.projection.bias": params["patch_bias"],
        "layernorm.weight": params["final_norm"],
        "layernorm.bias": params["final_norm_bias"],
    }
    for layer in range(config.L):
        w = {name: array[layer] for name, array in params["layers"].items()}
        for leaf, module in (MODULES | (OF_DINOV2 if config.layer_scale else OF_VIT)).items():
            array, name = w[leaf], f"encoder.layer.{layer}.{module}"
            rows = array.shape[0] * (array.shape[1] if leaf == "wo" else 1)
            out[f"{name}.weight"] = array if array.ndim == 1 else array.reshape(rows, -1).T
            out[f"{name}.bias"] = w[f"{leaf}_bias" if "norm" in leaf else f"b{leaf[1:]}"].reshape(-1)
        if config.layer_scale:
            out[f"encoder.layer.{layer}.layer_scale1.lambda1"] = w["attn_scale"]
            out[f"encoder.layer.{layer}.layer_scale2.lambda1"] = w["mlp_scale"]
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def write_hf(folder, params, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(JSON | changes))
    tensors = {f"vit.{name}": array for name, array in stored(VIT, params).items()}
    tensors["classifier.weight"] = np.ascontiguousarray(params["head"].T)
    tensors["classifier.bias"] = params["head_bias"]
    tensors["vit.pooler.dense.weight"] = np.zeros((24, 24), np.float32)  # does not matter
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def write_onnx(path, params, drop=(), **changes):
    """As PyTorch exports it: matrices without names, positions in two pieces, a decoder behind."""
    tensors = {"decoder.conv.weight": np.zeros((1, 128, 1, 1), np.float32)}
    nodes = []
    anonymous = lambda: f"onnx::MatMul_{100 + len(tensors)}"
    for name, array in (stored(DINOV2, params) | changes).items():
        if name.endswith("position_embeddings"):
            for kind, piece in (("Concat", array[:, :1]), ("Reshape", array[:, 1:])):
                tensors[f"onnx::{kind}_7"] = piece
                nodes.append(helper.make_node(kind, ["x", f"onnx::{kind}_7"], ["y"], f"/backbone/embeddings/{kind}_3"))
        elif name.endswith(".weight") and array.ndim == 2:
            tensors[weight := anonymous()] = np.ascontiguousarray(array.T)
            module = name.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.")
            nodes.append(helper.make_node("MatMul", ["x", weight], ["y"], f"/backbone/{module}/MatMul"))
        else:
            tensors["backbone." + name] = array
    kept = [numpy_helper.from_array(array, name) for name, array in tensors.items() if name not in drop]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], kept)), path)
    return path


def same_trees(a, b):
    assert a.keys() == b.keys()
    for name in a:
        (same_trees if isinstance(a[name], dict) else np.testing.assert_array_equal)(a[name], b[name])


def test_hugging_face_vit(tmp_path):
    params = random_tree(VIT)
    config, found, tokenizer = load_safetensors(write_hf(tmp_path / "hf", params))
    assert (config, tokenizer) == (VIT, None)
    same_trees(found, params)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "relu"}, "sets hidden_act to 'relu'"),
        ({"qkv_bias": False}, "sets qkv_bias to False"),
        ({"num_attention_heads": 5}, "which its 5 heads do not divide"),
        ({"num_attention_heads": 0}, "count of heads of 0"),
        ({"image_size": 1}, "count of patches of 0"),
        ({"architectures": ["ViTModel"]}, r"holds tensor classifier\.bias"),
        ({"model_type": "dinov2"}, "DINOv2 with a classifier"),
        ({"model_type": "swin"}, "supported are llama, .*vit, dinov2"),
        ({"image_size": 8}, "where its configuration needs"),
    ],
)
def test_what_would_be_computed_differently_is_refused(tmp_path, changes, words):
    folder = write_hf(tmp_path / "hf", random_tree(VIT), **changes)
    with pytest.raises(ThinwireError, match=words) as error:
        load_safetensors(folder)
    assert "\n" not in str(error.value)


def test_an_onnx_export(tmp_path):
    params = random_tree(DINOV2)
    path = write_onnx(tmp_path / "m.onnx", params)
    model = load_model(str(path))
    assert (model.family, model.config, model.tokenizer) == ("vit", DINOV2, None)
    same_trees(model.params, params)
    assert len(model.sha256) == 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[: len(raw) // 2], "is truncated or corrupt"),
        (lambda raw: b"no protobuf", "is truncated or corrupt"),
        (lambda raw: b"", "no positions of a class token"),
    ],
)
def test_damaged_onnx_files(tmp_path, change, words):
    path = write_onnx(tmp_path / "m.onnx", random_tree(DINOV2))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ThinwireError, match=words):
        load_model(str(path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop": ("onnx::Reshape_7",)}, "no positions of a class token"),
        ({"drop": ("backbone.layernorm.weight",)}, r"lacks the tensor layernorm\.weight"),
        ({"drop": ("backbone.encoder.layer.0.mlp.fc1.bias",)}, "patches or its first layer are not there"),
        ({"layernorm.weight": np.full(128, np.nan, np.float32)}, "holds NaN"),
        ({"layernorm.weight": np.ones(128, np.int64)}, "has dtype int64"),
        ({"layernorm.weight": np.ones(12, np.float32)}, "where its configuration needs"),
    ],
)
def test_other_onnx_files(tmp_path, options, words):
    path = write_onnx(tmp_path / "m.onnx", random_tree(DINOV2), **options)
    with pytest.raises(ThinwireError, match=words):
        load_model(str(path))


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    path = write_onnx(tmp_path / "m.onnx", random_tree(DINOV2))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ThinwireError, match=r"needs the package onnx to be read: pip install 'thinwire\[onnx\]'"):
        load_model(str(path))


def test_a_shape_of_any_number_of_tokens(tmp_path):
    model = load_model(str(write_hf(tmp_path / "hf", random_tree(VIT))))
    assert for_tokens(model, 10) is not None
    other = for_tokens(model, 16)
    assert other.config == dataclasses.replace(VIT, grid=(3, 5))
    assert other.params["positions"].shape == (16, 24)
    assert other.sha256 == model.sha256
    same_trees(for_tokens(model, 10).params, model.params)
    with pytest.raises(ThinwireError, match="no patch; ask for at least 2"):
        for_tokens(model, 1)
    language = load_model("shape:llama-tiny")
    assert for_tokens(language, 16) is language
