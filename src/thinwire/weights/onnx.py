"""A DINOv2 backbone from the initialisers of an ONNX file, as PyTorch exports one; the graph itself is not run.

Biases and norms keep their names in an export. Matrices lose theirs and are stored (in, out); the node that multiplies
by one is still called after its module. The positions come in two pieces, those of the class token and of the patches.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.vit_config import ViTConfig
from thinwire.weights.assemble import Source, assemble
from thinwire.weights.vit_names import hugging_face_format

_BACKBONE = "backbone."  # other parts of the graph, such as a decoder, do not matter
_HEAD = 64  # width of DINOv2's heads, in all its sizes; no array shows it
_EPS = 1e-6  # of DINOv2's norms


def load_onnx(path: Path) -> tuple[ViTConfig, dict, None]:
    """Read a DINOv2 backbone; there is no tokenizer.

    Raises:
        ThinwireError: the package onnx is not installed; the file is missing, damaged, or of another model.
    """
    tensors = {
        name.removeprefix(_BACKBONE): tensor for name, tensor in _named(_graph(path), path).items()
        if name.startswith(_BACKBONE)
    }  # fmt: skip
    config = _config({name: tensor.shape for name, tensor in tensors.items()}, path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return config, assemble(config, hugging_face_format(config), Source(path, shapes, tensors.__getitem__)), None


def _graph(path: Path) -> Any:
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as e:
        raise ThinwireError(f"{path} needs the package onnx to be read: pip install 'thinwire[onnx]'") from e
    try:
        return onnx.load(path, load_external_data=False).graph
    except OSError as e:
        raise ThinwireError(f"cannot read {path} ({e.strerror or e})") from e
    except Exception as e:  # a DecodeError of protobuf, whose place has moved between versions
        raise ThinwireError(f"{path} is truncated or corrupt, or no ONNX file: fetch it again") from e


def _named(graph: Any, path: Path) -> dict[str, np.ndarray]:
    """The initialisers that matter by Hugging Face's names, matrices (out, in)."""
    numpy_helper = importlib.import_module("onnx.numpy_helper")

    def array(name: str) -> np.ndarray:
        tensor = stored[name]
        if tensor.external_data:
            raise ThinwireError(f"{path} keeps its weights in another file, which is not supported")
        try:
            found = numpy_helper.to_array(tensor)
        except Exception as e:  # of many kinds, where the bytes do not fit the shape or the type is unknown
            raise ThinwireError(f"tensor {name} of {path} is damaged: fetch the file again") from e
        if found.dtype.kind != "f":
            raise ThinwireError(f"tensor {name} of {path} has dtype {found.dtype}; only floats are supported")
        return found

    stored = {tensor.name: tensor for tensor in graph.initializer}
    named = {name: array(name) for name in stored if name.startswith(_BACKBONE)}
    pieces: dict[str, np.ndarray] = {}  # of the positions
    for node in graph.node:
        anonymous = [name for name in node.input if name in stored and not name.startswith(_BACKBONE)]
        module, _, operation = node.name.strip("/").replace("/", ".").rpartition(".")
        if len(anonymous) != 1 or not module.startswith(_BACKBONE):
            continue
        if operation == "MatMul":
            named[f"{module}.weight"] = array(anonymous[0]).T
        elif module == _BACKBONE + "embeddings" and node.op_type in ("Concat", "Reshape"):
            pieces[node.op_type] = array(anonymous[0])
    both = [pieces[kind] for kind in ("Concat", "Reshape") if kind in pieces]
    if len(both) != 2 or any(piece.ndim != 3 or piece.shape[::2] != both[0].shape[::2] for piece in both):
        raise ThinwireError(f"{path} has no positions of a class token and of patches: it is no DINOv2 as exported")
    return {**named, f"{_BACKBONE}embeddings.position_embeddings": np.concatenate(both, axis=1)}


def _config(shapes: dict[str, tuple[int, ...]], path: Path) -> ViTConfig:
    """The configuration that the arrays' shapes amount to."""
    layers = {name.split(".")[2] for name in shapes if name.startswith("encoder.layer.")}
    try:
        width, channels, patch, across = shapes["embeddings.patch_embeddings.projection.weight"]
        (hidden,) = shapes["encoder.layer.0.mlp.fc1.bias"]
        count = shapes["embeddings.position_embeddings"][1] - 1
    except (KeyError, ValueError) as e:
        raise ThinwireError(f"{path} is no DINOv2 as exported: its patches or its first layer are not there") from e
    side = round(count**0.5)
    if side**2 != count or patch != across or width % _HEAD:
        raise ThinwireError(
            f"{path} is no DINOv2: it has {count} positions, patches of {patch} by {across} pixels and width {width}"
        )
    return ViTConfig(
        D=width, L=len(layers), H=width // _HEAD, F=hidden, patch=patch, grid=(side, side), channels=channels,
        norm_eps=_EPS, layer_scale=True,
    )  # fmt: skip
