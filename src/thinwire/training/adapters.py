"""Low-rank adapters (LoRA) [Hu et al. 2021, arXiv:2106.09685] of the matrices of any family.

A weight W of shape (in, out) becomes W + (alpha / rank) · down @ up [equation 3; there up is B and down is A, both
transposed]. ``down`` (in, rank) starts random and ``up`` (rank, out) as 0, so that an adapter that has learnt nothing
changes nothing [section 4.1]. Adapters are merged into the weights, so no model and no strategy knows of them.

What stands outside of the layers (embeddings, positions, the last norm, a head) can be trained with them as it is: the
target ``top``. Stored is the change to each array, which starts as 0.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from thinwire.errors import ThinwireError

# Groups of matrices, by the axes that tell them from others.
GROUPS: dict[str, frozenset[str]] = {
    "attention": frozenset({"heads", "kv_heads"}),
    "mlp": frozenset({"hidden"}),
}
TOP = "top"


@dataclasses.dataclass(frozen=True)
class LoRA:
    """How matrices are adapted.

    Attributes:
        rank: of what is added to a matrix.
        alpha: what is added is multiplied by alpha / rank.
        targets: the matrices: ``attention``, ``mlp``, or names of single ones such as ``wq``; ``top`` for all arrays
            outside of the layers, which change by more than a low rank.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("attention", "mlp")

    def __post_init__(self):
        """Checks what can be checked without a model."""
        if self.rank < 1:
            raise ThinwireError(f"LoRA of rank {self.rank} adapts nothing; use at least 1.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ThinwireError(f"LoRA's alpha is {self.alpha}; give a positive number, such as twice the rank.")
        if not self.targets:
            raise ThinwireError(f"LoRA without targets adapts nothing; name some of {', '.join(GROUPS)}.")

    @property
    def scale(self) -> float:
        """What ``down @ up`` is multiplied by."""
        return self.alpha / self.rank


def matrices(lora: LoRA, family: Any, config: Any) -> dict[str, tuple[int, int]]:
    """The matrices of a layer that are adapted, and their sizes (in, out), whatever axes those are made of.

    Args:
        lora: which ones.
        family: a module of ``FAMILIES``.
        config: a configuration of that family.

    Raises:
        ThinwireError: the family has no such target, or a matrix has fewer rows or columns than the rank.
    """
    axes, shapes = family.param_axes(config)["layers"], family.param_shapes(config)["layers"]
    there = {name: of for name, (_, *of) in axes.items() if "width" in of and len(of) > 1}
    known = [*GROUPS, TOP, *there]
    for target in lora.targets:
        if target not in known:
            raise ThinwireError(f"LoRA has no target {target!r} in this model; there are {', '.join(known)}.")
    found = {}
    for name, of in there.items():
        if not any(target == name or not GROUPS.get(target, frozenset()).isdisjoint(of) for target in lora.targets):
            continue
        # The width comes first where a matrix reads rows of the model, and last where it makes them.
        inputs = 1 if of[0] == "width" else len(of) - 1
        sizes = shapes[name][1:]
        found[name] = math.prod(sizes[:inputs]), math.prod(sizes[inputs:])
        if lora.rank > min(found[name]):
            raise ThinwireError(
                f"LoRA of rank {lora.rank} is more than {name} has, which is {found[name][0]} by {found[name][1]}; "
                f"use at most {min(found[name])}, or leave {name} out of the targets."
            )
    return found


def shapes(lora: LoRA, family: Any, config: Any) -> dict[str, Any]:
    """The tree of an adapter's shapes: ``{"layers": {name: {"down": (L, in, rank), "up": (L, rank, out)}}}``.

    With the target ``top`` beside them those of all arrays outside of the layers.

    Raises:
        ThinwireError: as of ``matrices``.
    """
    layers, whole = family.dims(config).layers, family.param_shapes(config) if TOP in lora.targets else {}
    return {
        **{name: shape for name, shape in whole.items() if name != "layers"},
        "layers": {
            name: {"down": (layers, rows, lora.rank), "up": (layers, lora.rank, columns)}
            for name, (rows, columns) in matrices(lora, family, config).items()
        },
    }


def init(lora: LoRA, key: jax.Array, family: Any, config: Any) -> dict[str, Any]:
    """An adapter that changes nothing yet: ``down`` normal with variance 1 / in, all else 0; float32.

    Args:
        lora: what is adapted.
        key: decides ``down``.
        family: a module of ``FAMILIES``.
        config: a configuration of that family.

    Returns:
        Arrays as of ``shapes``.

    Raises:
        ThinwireError: as of ``matrices``.
    """
    of_all = shapes(lora, family, config)
    of_layers = of_all.pop("layers")
    keys = jax.random.split(key, len(of_layers))
    return {
        **{name: jnp.zeros(shape, jnp.float32) for name, shape in of_all.items()},
        "layers": {
            name: {
                "down": jax.random.normal(one, of["down"], jnp.float32) * of["down"][1] ** -0.5,
                "up": jnp.zeros(of["up"], jnp.float32),
            }
            for one, (name, of) in zip(keys, of_layers.items(), strict=True)
        },
    }


def merge(params: Mapping[str, Any], adapter: Mapping[str, Any], lora: LoRA) -> dict[str, Any]:
    """The weights with an adapter added to them; a pure function, for ``jax.jit`` and ``jax.grad`` too.

    Args:
        params: as of the family's ``param_shapes``, in any float type, which the result keeps.
        adapter: as of ``shapes``.
        lora: what it was made for.

    Returns:
        The same tree; arrays that are not adapted are the same ones.
    """
    layers = dict(params["layers"])
    for name, low in adapter["layers"].items():
        layers[name] = _added(layers[name], low["down"], low["up"], lora.scale)
    top = {name: _changed(params[name], change) for name, change in adapter.items() if name != "layers"}
    return {**params, **top, "layers": layers}


def _changed(array: Any, change: Any) -> jax.Array:
    array = jnp.asarray(array)
    return (array.astype(jnp.float32) + jnp.asarray(change).astype(jnp.float32)).astype(array.dtype)


def _added(weight: Any, down_LIr: Any, up_LrO: Any, scale: float) -> jax.Array:
    """One matrix of all layers; its axes of inputs come first, so that the product only has to be reshaped."""
    weight, down_LIr, up_LrO = map(jnp.asarray, (weight, down_LIr, up_LrO))  # of NumPy or JAX
    product_LIO = jnp.einsum(
        "lir,lro->lio", down_LIr.astype(jnp.float32), up_LrO.astype(jnp.float32), precision=lax.Precision.HIGHEST
    )
    # Added in float32 and rounded once: a small change to a bfloat16 weight must not be rounded before it is added.
    whole = weight.astype(jnp.float32) + scale * product_LIO.reshape(weight.shape)
    return whole.astype(weight.dtype)


def size_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, an adapter or weights; works on shapes (``jax.ShapeDtypeStruct``) too."""
    leaves: Iterable[Any] = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves)
