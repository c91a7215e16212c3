"""Fill the parameter tree of any family from named tensors, whatever they are read from."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES, Config

Axes = tuple[str, ...]
# An array of the tree, without its axis of layers, and the meaning of its axes -> a view of it, laid as in the file.
Form = Callable[[np.ndarray, Axes], np.ndarray]


def same(leaf: np.ndarray, axes: Axes) -> np.ndarray:
    """Stored as in the tree."""
    del axes
    return leaf


def in_out(leaf: np.ndarray, axes: Axes) -> np.ndarray:
    """A matrix stored (in, out), as GPT-2's Conv1D; a vector as it is."""
    inputs = 1 if axes[0] == "width" else len(axes) - 1
    rows = int(np.prod(leaf.shape[:inputs], dtype=np.int64))
    return leaf.reshape(-1) if "width" not in axes or leaf.ndim == 1 else leaf.reshape(rows, -1)


def linear(leaf: np.ndarray, axes: Axes) -> np.ndarray:
    """A matrix stored (out, in), as PyTorch's Linear; a vector as it is."""
    return in_out(leaf, axes).T


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an array of the tree is stored."""

    name: str  # of the tensor; {} stands for the layer
    form: Form = linear
    part: tuple[int, int] = (0, 1)  # which of how many equal parts of the tensor
    axis: int = 0  # along which the tensor has its parts


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of file holds the models of a family."""

    what: str  # such as "Llama", for messages
    places: Mapping[str, Place]  # by leaf of the tree
    # The name of a tensor as ``places`` has it; None for what may be there and does not matter.
    known_as: Callable[[str], str | None] = lambda name: name


@dataclasses.dataclass(frozen=True)
class Source:
    """Named tensors, wherever they lie."""

    where: Path  # for messages
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]  # called from several threads; in any float type


@dataclasses.dataclass(frozen=True)
class _Slot:
    place: Place
    leaf: str  # in the tree
    layer: int | None  # along the leading axis, for arrays of layers
    shape: tuple[int, ...]  # in the tree, without that axis
    axes: Axes

    @property
    def name(self) -> str:
        return self.place.name if self.layer is None else self.place.name.format(self.layer)


def assemble(config: Config, form: Format, source: Source) -> dict:
    """The parameter tree of a configuration, float32.

    Args:
        config: decides the tree.
        form: where the tensors of its arrays are.
        source: the tensors.

    Raises:
        ThinwireError: a tensor is missing, too many, of another shape, or holds NaN or infinity.
    """
    family, where = FAMILIES[config.family], source.where
    shapes = family.param_shapes(config)
    found = _found(form, source)
    wanted: dict[str, list[_Slot]] = {}  # by the name of a tensor, which may hold several arrays
    for slot in _slots(shapes, family.param_axes(config), form):
        # Before anything is allocated: a corrupt count of layers must not matter.
        if slot.name not in found:
            raise ThinwireError(
                f"{where} lacks the tensor {slot.name}: the file is incomplete or not a plain {form.what}"
            )
        stored, has = _stored_shape(slot, where), source.shapes[found[slot.name]]
        if has != stored:
            raise ThinwireError(
                f"tensor {found[slot.name]} of {where} has shape {has} where its configuration needs {stored}"
            )
        wanted.setdefault(slot.name, []).append(slot)
    extra = sorted(found[name] for name in set(found) - set(wanted))
    if extra:
        raise ThinwireError(
            f"{where} holds tensor {extra[0]}, which a plain {form.what} has no place for"
            f"{f' (and {len(extra) - 1} more)' if len(extra) > 1 else ''}: this variant is not supported"
        )
    params = _empty(shapes)

    def read(name: str, slots: list[_Slot]) -> None:
        with np.errstate(all="ignore"):  # what a damaged file overflows is told below
            tensor = source.read(found[name])
            for slot in slots:
                leaf = params[slot.leaf] if slot.layer is None else params["layers"][slot.leaf][slot.layer]
                index, parts = slot.place.part
                slot.place.form(leaf, slot.axes)[...] = np.split(tensor, parts, slot.place.axis)[index]
                check_finite(leaf, found[name], where)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # more would wait for each other
        for done in [pool.submit(read, name, slots) for name, slots in wanted.items()]:
            done.result()
    return params


def _found(form: Format, source: Source) -> dict[str, str]:
    """The names in the file of the tensors that matter, by the names that ``form`` knows them by."""
    found: dict[str, str] = {}
    for name in source.shapes:
        known = form.known_as(name)
        if known is None:
            continue
        if known in found:
            raise ThinwireError(
                f"{source.where} holds {found[known]} and {name}, which are one tensor: keep one of them"
            )
        found[known] = name
    return found


def _slots(shapes: dict, axes: dict, form: Format) -> Iterator[_Slot]:
    """Every array of the tree, those of layers by layer."""
    for leaf, shape in shapes.items():
        if leaf != "layers":
            yield _Slot(form.places[leaf], leaf, None, shape, axes[leaf])
    layers = next(iter(shapes["layers"].values()))[0]
    for layer in range(layers):
        for leaf, shape in shapes["layers"].items():
            yield _Slot(form.places[leaf], leaf, layer, shape[1:], axes["layers"][leaf][1:])


def _stored_shape(slot: _Slot, where: Path) -> tuple[int, ...]:
    """The shape that the slot's tensor must have."""
    try:
        stand_in = np.broadcast_to(np.zeros((), np.float32), slot.shape)  # takes no memory, whatever its shape
    except ValueError as e:
        raise ThinwireError(f"{where} gives {slot.name} the size {slot.shape}: the file is damaged") from e
    shape = list(slot.place.form(stand_in, slot.axes).shape)
    shape[slot.place.axis] *= slot.place.part[1]
    return tuple(shape)


def _empty(shapes: dict) -> dict[str, Any]:
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
