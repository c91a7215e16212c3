"""Trained artefacts: a folder with what was trained, the codebooks that belong to it, and what both are for.

    card.json                 what it is, and the hash of every file (``card.py``)
    README.md                 the same for a reader (``model_card.py``)
    adapter.safetensors       a low-rank adapter (``adapters.py``), or
    weights.safetensors       whole weights, named as in the parameter tree
    codebooks/                a codebook set (``thinwire.codebooks.store``) of the trained model

Saving is atomic and loading trusts nothing: hashes, names, shapes and types must be what the card says, every value
finite, the base model the one that was trained.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from thinwire.codebooks import store
from thinwire.codebooks.eight_bits import rounded
from thinwire.codebooks.folders import check_room, reason, whole_folder
from thinwire.codebooks.manifest import Manifest
from thinwire.codecs.base import SHARED
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.models.stored_config import config_to_dict
from thinwire.strategies import Strategy, Tensor, parse_strategy
from thinwire.training import adapters
from thinwire.training.card import ADAPTER, Card, config_of, lora_of
from thinwire.training.model_card import model_card
from thinwire.training.named_arrays import flat, read, tree
from thinwire.weights.byte_tokenizer import ByteTokenizer
from thinwire.weights.cache import sha256_file
from thinwire.weights.load import LoadedModel, load_model

CARD, README, CODEBOOKS = "card.json", "README.md", "codebooks"
_SUFFIX = ".safetensors"
_MARGIN_BYTES = 1 << 20
_DTYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True, eq=False)
class Artefact:
    """What was trained.

    Attributes:
        card: what it is.
        arrays: an adapter as of ``adapters.shapes``, or weights as of the family's ``param_shapes``; float32.
        codecs: the codec's learnt arrays, ``{site: {name: (L, ...)}}``; empty where it learns nothing.
        health: figures of the codebooks by site and layer, such as the part that is unused; may be empty.
    """

    card: Card
    arrays: dict[str, Any]
    codecs: Codecs = dataclasses.field(default_factory=dict)
    health: dict[str, Any] = dataclasses.field(default_factory=dict)


def describe(
    model: LoadedModel,
    strategy: Strategy,
    lora: adapters.LoRA | None,
    data: Mapping[str, Any],
    seed: int,
    command: str,
    figures: Mapping[str, Any] | None = None,
    from_scratch: bool = False,
) -> Card:
    """The card of what a training makes of a model.

    Args:
        model: the base model; with ``from_scratch`` the configuration with its random weights.
        strategy: what it is trained for.
        lora: the settings of the adapter; None for whole weights.
        data: what it is trained on.
        seed: of the training.
        command: what a user types to train it again.
        figures: what was found, by name.
        from_scratch: whether the base model's weights do not matter.
    """
    return Card(
        model=model.name,
        model_sha256="" if from_scratch else model.sha256,
        family=model.family,
        config=config_to_dict(model.config),
        strategy=strategy.spec(),
        codec=strategy.codec.spec(),
        lora=None if lora is None else {**dataclasses.asdict(lora), "targets": list(lora.targets)},
        data=dict(data),
        seed=seed,
        command=command,
        figures=dict(figures or {}),
    )


def save(folder: str | Path, artefact: Artefact, dtype: str = "float32", eight_bits: bool = False) -> Artefact:
    """Saves an artefact, over an older one if there is one; an interrupted save leaves no half of one.

    Args:
        folder: the directory to make.
        artefact: what was trained; arrays of NumPy or JAX.
        dtype: of the arrays as they are stored; an adapter may be ``float16``, at half the size.
        eight_bits: stores the codebooks in a quarter of their size (``thinwire.codebooks.eight_bits``).

    Returns:
        The artefact as ``load`` gives it, rounded if it was.

    Raises:
        ThinwireError: an array holds NaN or infinity or does not fit ``dtype``, the folder holds something else or
            cannot be written (it names the reason).
        ValueError: the arrays are not what the card says.
    """
    path = Path(folder).absolute()
    card, stored = artefact.card, flat(artefact.arrays)
    check_dtype(dtype, card)
    _check_shapes(card, {name: array.shape for name, array in stored.items()})
    if parse_strategy(card.strategy).codec.learns and not artefact.codecs:
        raise ValueError(f"{card.codec} learns codebooks, and there are none")
    check_place(path)
    with np.errstate(over="ignore"):  # told below
        stored = {name: np.ascontiguousarray(array.astype(dtype)) for name, array in stored.items()}
    codecs = {site: {name: np.asarray(x, np.float32) for name, x in of.items()} for site, of in artefact.codecs.items()}
    for name, array in {**stored, **flat(codecs)}.items():
        if not np.isfinite(array).all():
            why = "leave float16 out or train with a smaller rate" if dtype == "float16" else "the training diverged"
            raise ThinwireError(f"{name} holds NaN or infinity as {array.dtype}, so nothing was saved: {why}.")
    arrays = tree({name: array.astype(np.float32) for name, array in stored.items()})
    card = dataclasses.replace(card, dtype=dtype, sha256=_identity(card, arrays), files={})
    try:
        with whole_folder(path) as fresh:
            check_room(fresh, sum(array.nbytes for array in stored.values()) + _MARGIN_BYTES)
            save_file(stored, fresh / (card.kind + _SUFFIX))
            if codecs:
                store.save(fresh / CODEBOOKS, _manifest(card, codecs, artefact.health), codecs, eight_bits)
            written = sorted(file for file in fresh.rglob("*") if file.is_file())
            files = {file.relative_to(fresh).as_posix(): sha256_file(file) for file in written}
            card = dataclasses.replace(card, files=files)
            (fresh / README).write_text(model_card(card, eight_bits), encoding="utf-8")
            (fresh / CARD).write_text(card.to_json(), encoding="utf-8")
    except (OSError, SafetensorError, ThinwireError) as error:
        raise ThinwireError(
            f"The trained weights could not be saved to {path}: {reason(error)}; free some space or name another place."
        ) from error
    return Artefact(card, arrays, rounded(codecs) if eight_bits else codecs, artefact.health)


def check_dtype(dtype: str, card: Card) -> None:
    """Raises ThinwireError where arrays of this kind are not stored in ``dtype``; to be asked before hours of work."""
    if dtype not in _DTYPES:
        raise ThinwireError(f"Trained arrays are not stored as {dtype}; choose one of {', '.join(_DTYPES)}.")
    if dtype != "float32" and card.kind != ADAPTER:
        raise ThinwireError(f"Only adapters may be stored as {dtype}; store whole weights as float32.")


def check_place(folder: str | Path) -> None:
    """Raises ThinwireError where something else than a trained artefact is at ``folder``."""
    path = Path(folder).absolute()
    if path.exists() and not (path / CARD).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise ThinwireError(f"{path} is not a trained artefact, so nothing was saved over it: choose another path.")


def load(folder: str | Path, model: LoadedModel | None = None) -> Artefact:
    """Loads an artefact and checks all of it.

    Args:
        folder: where it is.
        model: if given, the base model that it has to be for.

    Raises:
        ThinwireError: there is none, it is damaged or of another format, or it is for another base model.
    """
    path = Path(folder).absolute()
    card = read_card(path)
    if model is not None:
        check_base(card, model)
    try:
        _check_files(path, card)
        arrays = read(path / (card.kind + _SUFFIX), card.dtype, lambda shapes: _check_shapes(card, shapes))
        if _identity(card, arrays) != card.sha256:
            raise ValueError("the arrays are not those that card.json is of")
        books = _read_codebooks(path, card)
    except (ValueError, OSError) as error:
        raise ThinwireError(f"The trained weights in {path} are damaged: {error}; copy or train them again.") from error
    codecs, health = (books.arrays, books.manifest.health) if books is not None else ({}, {})
    return Artefact(card, arrays, codecs, health)


def read_card(folder: str | Path) -> Card:
    """The card of an artefact, without its arrays.

    Raises:
        ThinwireError: there is none at ``folder``, or it is damaged or of another format.
    """
    path = Path(folder).absolute()
    if not path.is_dir():
        raise ThinwireError(f"There are no trained weights at {path}: name a folder that a training has saved.")
    try:
        return Card.from_json((path / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ThinwireError(f"{path} is not a trained artefact: it has no {CARD}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ThinwireError(f"{path / CARD} cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:  # JSON's own errors are ValueErrors too
        raise ThinwireError(f"{path / CARD} is damaged: {reason(error)}; copy or train it again.") from error


def check_base(card: Card, model: LoadedModel) -> None:
    """Refuses any model but the one that was trained.

    Raises:
        ThinwireError: it says which one that is.
    """
    if card.from_scratch:
        raise ThinwireError(f"These weights of {card.model} were trained from scratch; leave model {model.name} out.")
    if card.model_sha256 != model.sha256:
        which = f"other weights of {card.model}" if card.model == model.name else f"{card.model}, not {model.name}"
        raise ThinwireError(
            f"These trained weights are for {which}: give the model of sha256 {card.model_sha256[:16]}…, or train anew."
        )


def apply(artefact: Artefact, model: LoadedModel) -> LoadedModel:
    """The trained model: weights merged, and a hash of base and artefact together, so that nothing is mixed up.

    Raises:
        ThinwireError: ``model`` is not the base model.
    """
    check_base(artefact.card, model)
    lora = lora_of(artefact.card)
    if lora is None:
        return dataclasses.replace(_trained(artefact), tokenizer=model.tokenizer)
    params = jax.tree.map(np.asarray, adapters.merge(model.params, artefact.arrays, lora))
    return dataclasses.replace(_trained(artefact), config=model.config, params=params, tokenizer=model.tokenizer)


def from_scratch(artefact: Artefact) -> LoadedModel:
    """The model of weights that need no base model; one that reads 256 tokens reads the bytes of a text.

    Raises:
        ThinwireError: the artefact has a base model.
    """
    card = artefact.card
    if not card.from_scratch:
        raise ThinwireError(
            f"What was trained is a part of {card.model}: load that model and apply the artefact to it."
        )
    model = _trained(artefact)
    dims = _dims(card)
    if dims.language and dims.vocab == ByteTokenizer.vocab:
        return dataclasses.replace(model, tokenizer=ByteTokenizer())
    return model


def trained_model(artefact: Artefact, base: Callable[[], LoadedModel]) -> LoadedModel:
    """The trained model; ``base`` gives the base model, and is called only if there is one.

    Raises:
        ThinwireError: as of ``apply``.
    """
    return from_scratch(artefact) if artefact.card.from_scratch else apply(artefact, base())


def open_trained(folder: str | Path) -> LoadedModel:
    """The trained model in a folder; its base model is fetched if it has one.

    Raises:
        ThinwireError: as of ``load`` and ``apply``, or there is no such base model here.
    """
    found = load(folder)
    return trained_model(found, lambda: load_model(found.card.model))


def serves(artefact: Artefact, strategy: Strategy) -> bool:
    """Whether the artefact's codebooks are those that ``strategy`` needs: it codes the same values alike."""
    made_for = parse_strategy(artefact.card.strategy)
    if not strategy.codec.learns or strategy.codec != made_for.codec:
        return False
    sums = isinstance(strategy, Tensor), isinstance(made_for, Tensor)  # partial sums depend on who shares them
    return not any(sums) and set(strategy.sites(_dims(artefact.card))) <= artefact.codecs.keys()


def codecs(artefact: Artefact, strategy: Strategy) -> Codecs:
    """The learnt arrays that ``strategy`` needs; none where it needs none.

    Raises:
        ThinwireError: it needs others than the artefact has; the sentence says what it was made for.
    """
    if not strategy.codec.learns:
        return {}
    if not serves(artefact, strategy):
        raise ThinwireError(
            f"{strategy.spec()} needs other codebooks than these weights were trained with, which are for "
            f"{artefact.card.strategy}: use that strategy, or codebooks that were learnt for the other one."
        )
    return artefact.codecs


def _trained(artefact: Artefact) -> LoadedModel:
    """The trained model as far as the artefact says it; of an adapter its arrays are no weights yet."""
    card = artefact.card
    sha256 = card.sha256 or _identity(card, artefact.arrays)
    name = card.model if card.from_scratch else f"{card.model}+{card.kind}-{sha256[:8]}"
    return LoadedModel(name, card.family, config_of(card), artefact.arrays, None, sha256)


def _dims(card: Card):
    return FAMILIES[card.family].dims(config_of(card))


def _identity(card: Card, arrays: Mapping[str, Any]) -> str:
    """One hash over everything that the trained model's outputs depend on."""
    settings = {name: getattr(card, name) for name in ("model_sha256", "family", "config", "lora")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in sorted(flat(arrays).items()):
        digest.update(f"{name}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()


def _manifest(card: Card, codecs: Codecs, health: Mapping[str, Any]) -> Manifest:
    dims = _dims(card)
    sites = {site: dims.site_dim(site) for site in codecs if site != SHARED}
    return Manifest(
        model=card.model,
        model_sha256=card.sha256,
        family=card.family,
        layers=dims.layers,
        codec=card.codec,
        sites=sites,
        data={"source": "the training of the weights beside them", **card.data},
        seed=card.seed,
        health={site: health.get(site, [{}] * dims.layers) for site in sites},
    )


def _check_shapes(card: Card, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError, in words, where arrays are not what the card says."""
    family, config, lora = FAMILIES[card.family], config_of(card), lora_of(card)
    try:
        shapes = family.param_shapes(config) if lora is None else adapters.shapes(lora, family, config)
    except ThinwireError as error:
        raise ValueError(f"its adapter fits no {card.family} of this size ({error})") from error
    wanted = flat(shapes)
    for name, shape in wanted.items():
        if name not in found:
            raise ValueError(f"there is no array {name}")
        if tuple(found[name]) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(found[name])}, not {tuple(shape)}")
    if extra := sorted(found.keys() - wanted.keys()):
        raise ValueError(f"there is no place for {extra[0]}")


def _check_files(path: Path, card: Card) -> None:
    """Raises ValueError where a file is missing or its bytes are not those that were saved."""
    if card.kind + _SUFFIX not in card.files:
        raise ValueError(f"{CARD} names no {card.kind}{_SUFFIX}")
    for name, sha256 in card.files.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{CARD} names {name}, which is not in the folder")
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if sha256_file(file) != sha256:
            raise ValueError(f"the hash of {name} is not what {CARD} says")


def _read_codebooks(path: Path, card: Card) -> store.CodebookSet | None:
    if not any(name.startswith(f"{CODEBOOKS}/") for name in card.files):
        if parse_strategy(card.strategy).codec.learns:
            raise ValueError(f"there are no codebooks for {card.codec}")
        return None
    books, dims = store.load(path / CODEBOOKS), _dims(card)
    sites = {site: dims.site_dim(site) for site in parse_strategy(card.strategy).sites(dims)}
    store.check_fits(
        books.manifest, model_sha256=card.sha256, model_name=card.model, layers=dims.layers, sites_dims=sites,
        codec_spec=card.codec,
    )  # fmt: skip
    return books
