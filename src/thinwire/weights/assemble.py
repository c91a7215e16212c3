"""Fill the parameter tree of a Llama from the named matrices of a file, whatever its format."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.llama_config import LlamaConfig, param_shapes


@dataclasses.dataclass(frozen=True)
class Slot:
    """One array of a file, and its place in the tree."""

    name: str  # in the file
    shape: tuple[int, ...]  # in the file: (out, in) for a matrix
    leaf: str  # in the tree
    layer: int | None  # along the leading axis, for arrays of layers


def slots(config: LlamaConfig, names: Mapping[str, str]) -> Iterator[Slot]:
    """Every array that a file of this configuration must hold, under its names there."""
    shapes = param_shapes(config)
    yield Slot(names["embed"], shapes["embed"], "embed", None)
    yield Slot(names["final_norm"], shapes["final_norm"], "final_norm", None)
    if not config.tied:
        yield Slot(names["head"], shapes["head"][::-1], "head", None)
    for layer in range(config.L):
        for leaf, (_, *shape) in shapes["layers"].items():
            if leaf == "wo":
                stored = (config.D, config.H * config.d)
            elif len(shape) == 1:
                stored = tuple(shape)
            else:
                stored = (math.prod(shape[1:]), shape[0])
            yield Slot(names[leaf].format(layer), stored, leaf, layer)


def assemble(
    config: LlamaConfig,
    names: Mapping[str, str],
    found: Mapping[str, tuple[int, ...]],
    read_into: Callable[[Slot, np.ndarray], None],
    where: Path,
) -> dict:
    """The parameter tree, float32, each array read by ``read_into(slot, out)``.

    Args:
        config: decides the tree.
        names: the file's name of each leaf.
        found: the shape of each array that the file holds and that matters.
        read_into: writes the array of ``slot`` into ``out``: a vector, or a matrix of ``slot.shape`` (a view of its
            place in the tree, where it lies transposed; the embedding lies as stored). Called from several threads.
        where: the file, for messages.

    Raises:
        ThinwireError: an array is missing, too many, of another shape, or holds NaN or infinity.
    """
    wanted: dict[str, Slot] = {}
    for slot in slots(config, names):  # before anything is allocated: a corrupt count of layers must not matter
        if slot.name not in found:
            raise ThinwireError(f"{where} lacks the tensor {slot.name}: the file is incomplete or not a plain Llama")
        if found[slot.name] != slot.shape:
            raise ThinwireError(
                f"tensor {slot.name} of {where} has shape {found[slot.name]} where its configuration needs {slot.shape}"
            )
        wanted[slot.name] = slot
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise ThinwireError(
            f"{where} holds tensor {extra[0]}, which a plain Llama has no place for"
            f"{f' (and {len(extra) - 1} more)' if len(extra) > 1 else ''}: this variant is not supported"
        )
    params = _empty(param_shapes(config))

    def read(slot: Slot) -> None:
        if slot.layer is None:
            out = params[slot.leaf]
        else:
            leaf = params["layers"][slot.leaf][slot.layer]
            rows = config.H * config.d if slot.leaf == "wo" else leaf.shape[0]
            out = leaf if leaf.ndim == 1 else leaf.reshape(rows, -1)
        with np.errstate(all="ignore"):  # what a damaged file overflows is told below
            read_into(slot, out if out.ndim == 1 or slot.leaf == "embed" else out.T)
        check_finite(out, slot.name, where)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # more would wait for each other
        for done in [pool.submit(read, slot) for slot in wanted.values()]:
            done.result()
    return params


def _empty(shapes: dict) -> dict:
    return {
        k: _empty(v) if isinstance(v, dict) else np.empty(v, np.float32)
        for k, v in shapes.items()
    }  # fmt: skip


def check_finite(array: np.ndarray, name: str, where: Path) -> None:
    """Refuse an array that holds NaN or infinity.

    Raises:
        ThinwireError: naming the tensor.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(array.sum())  # one cheap pass; a sum may also overflow, so look closer
    if suspect and not np.isfinite(array).all():
        raise ThinwireError(f"tensor {name} of {where} holds NaN or infinity: the file is damaged, fetch it again")


def check_config(config: LlamaConfig, where: Path) -> LlamaConfig:
    """The configuration, if a Llama can have it.

    Raises:
        ThinwireError: a size is not positive, heads do not group, or a head has odd width.
    """
    c = config
    for name, value in (
        ("width", c.D), ("count of layers", c.L), ("count of heads", c.H), ("count of key/value heads", c.K),
        ("width of a head", c.d), ("feed-forward width", c.F), ("vocabulary", c.V), ("context", c.context),
        ("rotary base", c.rope_theta), ("norm epsilon", c.norm_eps),
    ):  # fmt: skip
        if not (value > 0 and math.isfinite(value)):
            raise ThinwireError(f"{where} gives a {name} of {value}: the file is damaged")
    if c.H % c.K:
        raise ThinwireError(f"{where} gives {c.H} query heads, which {c.K} key/value heads do not divide")
    if c.d % 2:
        raise ThinwireError(f"{where} gives heads of odd width {c.d}, which cannot be rotated in pairs")
    return c
