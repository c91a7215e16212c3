"""``NAME:layers=6:patch=7:side=28:colours=1:classes=10``: a pretrained vision Transformer, cut for other images.

What fine-tuning begins with where images are far smaller than those that a model was trained on. A patch of fewer
pixels is embedded as what it is when enlarged to the size that the model knows: enlarging is linear, so it goes into
the embedding once and costs nothing later (the idea of L. Beyer et al., "FlexiViT", 2023, section 3.3; there the other
way round too, by a pseudoinverse).
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float

from thinwire.errors import ThinwireError
from thinwire.models.vit_config import ViTConfig
from thinwire.models.vit_positions import resized

_KNOWN = ("layers", "patch", "side", "colours", "classes")


def variant(config: Any, params: dict[str, Any], options: str) -> tuple[ViTConfig, dict[str, Any]]:
    """A vision Transformer of fewer layers, for other images, or with a new head.

    Args:
        config, params: what it is made from.
        options: ``layers=``, the first so many; ``patch=``, pixels of a patch's side, at most the model's own;
            ``side=``, pixels of an image's side (without it the grid of patches stays); ``colours=``, 1 for grey
            images of a model that reads three; ``classes=`` of a head of zeros. Any of them, with ``:`` between.

    Raises:
        ThinwireError: the model reads no images, or an option is unknown or impossible.
    """
    asked = _read(options)
    if not isinstance(config, ViTConfig):
        raise ThinwireError(f"{options} is for vision Transformers only; leave it out, or name one of those.")
    layers, patch = asked.get("layers", config.L), asked.get("patch", config.patch)
    colours = asked.get("colours", config.channels)
    if layers > config.L or patch > config.patch:
        raise ThinwireError(
            f"layers={layers}:patch={patch} is more than the model has, {config.L} layers and patches of "
            f"{config.patch} pixels; ask for no more than that."
        )
    if colours not in (1, config.channels):
        raise ThinwireError(f"The model reads {config.channels} colours and not {colours}; ask for 1 or leave it out.")
    if "side" in asked:
        if asked["side"] % patch:
            raise ThinwireError(
                f"Images of {asked['side']} pixels cannot be cut into patches of {patch}; use a number that divides."
            )
        config, params = resized(config, params, (asked["side"] // patch, asked["side"] // patch))
    embedding = _embedding(np.asarray(params["patch"], np.float64), config, patch, colours)
    params = {**params, "patch": embedding, "layers": {name: x[:layers] for name, x in params["layers"].items()}}
    config = dataclasses.replace(config, L=layers, patch=patch, channels=colours)
    if "classes" in asked:
        config = dataclasses.replace(config, classes=asked["classes"])
        head = {"head": np.zeros((config.D, config.classes), np.float32)}
        params = {**params, **head, "head_bias": np.zeros(config.classes, np.float32)}
    return config, params


def variant_sha256(sha256: str, options: str) -> str:
    """The identity of what ``variant`` makes of a model with this one, whatever order the options are in."""
    return hashlib.sha256(f"{sha256}:{sorted(_read(options).items())}".encode()).hexdigest()


def _read(options: str) -> dict[str, int]:
    found = {}
    for option in options.split(":"):
        name, _, number = option.partition("=")
        if name not in _KNOWN or name in found or not number.isdecimal() or int(number) < 1:
            raise ThinwireError(f"{option!r} is no change to a model; write {', '.join(f'{n}=N' for n in _KNOWN)}.")
        found[name] = int(number)
    return found


def _embedding(
    kernel_PD: Float[np.ndarray, "P D"], config: ViTConfig, patch: int, colours: int
) -> Float[np.ndarray, "p D"]:
    kernel_CYXD = kernel_PD.reshape(config.channels, config.patch, config.patch, -1)
    if colours != config.channels:  # each of the model's colours is given the grey value
        kernel_CYXD = kernel_CYXD.sum(axis=0, keepdims=True)
    enlarge_Yy = _enlarge(patch, config.patch)
    small_CyxD = np.einsum("CYXD,Yy,Xx->CyxD", kernel_CYXD, enlarge_Yy, enlarge_Yy, optimize=True)
    return small_CyxD.reshape(-1, kernel_PD.shape[1]).astype(np.float32)


def _enlarge(small: int, large: int) -> Float[np.ndarray, "large small"]:
    """How much each pixel counts for each of the enlarged row: linear between centres, even beyond the outer ones."""
    weights = np.zeros((large, small))
    for i in range(large):
        at = min(max((i + 0.5) * small / large - 0.5, 0.0), small - 1.0)
        low = min(int(at), max(small - 2, 0))
        weights[i, low] += 1 - (at - low)
        if small > 1:
            weights[i, low + 1] += at - low
    return weights
