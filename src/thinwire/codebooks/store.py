"""Codebook sets on disk: a directory with a readable ``manifest.json`` and ``arrays/``, an orbax checkpoint.

Saving is atomic: everything is written and flushed beside the place and renamed into it. Loading trusts nothing: shapes
must be what the manifest says, the hash must match (the checkpoint's own format notices a missing byte, not a changed
one) and every value must be finite.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Array
from orbax.checkpoint import v1 as ocp

from thinwire.codebooks.eight_bits import pack, stored_dtype, unpack
from thinwire.codebooks.folders import check_room, reason, whole_folder
from thinwire.codebooks.manifest import Manifest, check_fits
from thinwire.codecs.base import SHARED
from thinwire.disk import quiet
from thinwire.errors import ThinwireError

__all__ = ["CodebookSet", "Manifest", "check_fits", "check_place", "load", "save"]

MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_COMMITTED = "commit_success.txt"  # the checkpoint library looks only whether it is there
# What a checkpoint may need beyond its arrays.
_MARGIN_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class CodebookSet:
    """Codebooks as loaded.

    Attributes:
        manifest: what they are.
        arrays: ``{site: {name: (L, ...)}}``, such as ``codebook`` (L, G, C, E); float32 NumPy arrays.
    """

    manifest: Manifest
    arrays: dict[str, dict[str, np.ndarray]]


def _hash(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for site in sorted(arrays):
        for name in sorted(arrays[site]):
            array = np.ascontiguousarray(arrays[site][name])
            digest.update(f"{site}/{name}:{array.dtype}:{array.shape};".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _check_arrays(manifest: Manifest, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Raises ValueError, in words, where arrays do not fit what the manifest says or hold NaN or infinity."""
    if arrays.keys() - {SHARED} != manifest.sites.keys():
        raise ValueError(f"there are arrays for sites {', '.join(arrays)}, not {', '.join(manifest.sites)}")
    for site, dim in manifest.sites.items():
        coded = arrays[site]["synthesis"].shape[1] if "synthesis" in arrays[site] else dim  # axes of a residual
        for name, array in arrays[site].items():
            where = f"{name} at site {site}"
            if array.dtype != np.float32:
                raise ValueError(f"{where} has type {array.dtype}, not float32")
            if array.ndim < 1 or array.shape[0] != manifest.layers:
                raise ValueError(f"{where} has shape {array.shape}, but there are {manifest.layers} layers")
            # (L, G, C, E), or (L, stages, G, C, E)
            if name == "codebook" and (array.ndim not in (4, 5) or array.shape[-3] * array.shape[-1] != coded):
                raise ValueError(f"{where} has shape {array.shape}, which does not make rows of {coded} values")
            if name == "synthesis" and array.shape[1:] != (coded, dim):
                raise ValueError(f"{where} has shape {array.shape}, which does not make rows of {dim} values")
            if not np.isfinite(array).all():
                raise ValueError(f"{where} holds NaN or infinity")


def _write(folder: Path, manifest: Manifest, arrays: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes a whole set into an empty folder."""
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    needed = sum(a.nbytes for site in arrays.values() for a in site.values()) + _MARGIN_BYTES
    check_room(folder, needed)
    with quiet():
        ocp.save(str(folder / _ARRAYS), arrays)
    for told in folder.rglob(_COMMITTED):  # it names the folder, which is nobody's business where the set goes on to
        told.write_text("")


def save(
    path: str | Path,
    manifest: Manifest,
    arrays: Mapping[str, Mapping[str, Array | np.ndarray]],
    eight_bits: bool = False,
) -> Manifest:
    """Saves a codebook set, over an older one if there is one; an interrupted save leaves no half-written set.

    Args:
        path: the directory to make.
        manifest: what the codebooks are; ``shapes`` and ``arrays_sha256`` are filled in.
        arrays: ``{site: {name: (L, ...)}}``, such as ``codebook`` (L, G, C, E); float32.
        eight_bits: stores them as ``codebooks.eight_bits`` rounds them.

    Returns:
        The manifest as written.

    Raises:
        ThinwireError: the path cannot be written (it names the reason), or it holds something else.
        ValueError: the arrays are not what the manifest says.
    """
    path = Path(path).absolute()
    host = {site: {name: np.asarray(a) for name, a in of_site.items()} for site, of_site in arrays.items()}
    _check_arrays(manifest, host)
    stored = pack(host) if eight_bits else host
    host = unpack(stored)
    shapes = {site: {name: list(a.shape) for name, a in of_site.items()} for site, of_site in stored.items()}
    manifest = dataclasses.replace(manifest, shapes=shapes, arrays_sha256=_hash(host))
    check_place(path)
    try:
        with whole_folder(path) as fresh:
            _write(fresh, manifest, stored)
    except (OSError, ValueError) as error:  # a ValueError is how the checkpoint library tells of a full disk
        raise ThinwireError(f"Codebooks could not be saved to {path}: {reason(error)}.") from error
    return manifest


def check_place(path: str | Path) -> None:
    """Raises ThinwireError where something else than a codebook set is at ``path``."""
    path = Path(path).absolute()
    if path.exists() and not (path / MANIFEST).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise ThinwireError(f"{path} is not a codebook set, so nothing was saved over it: choose another path.")


def load(path: str | Path) -> CodebookSet:
    """Loads a codebook set and checks all of it.

    Raises:
        ThinwireError: there is none at ``path``, or it is truncated, corrupt or of another format.
    """
    path = Path(path).absolute()
    if not path.is_dir():
        raise ThinwireError(f"There are no codebooks at {path}: make them with `thinwire calibrate`.")
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ThinwireError(f"{path} is not a codebook set: it has no {MANIFEST}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ThinwireError(f"{path / MANIFEST} cannot be read: {reason(error)}.") from error
    try:
        manifest = Manifest.from_json(text)
    except ValueError as error:  # JSON's own errors are ValueErrors too
        raise ThinwireError(f"{path / MANIFEST} is damaged: {reason(error)}; calibrate again.") from error
    try:
        target = {
            site: {name: np.empty(shape, stored_dtype(name)) for name, shape in of_site.items()}
            for site, of_site in manifest.shapes.items()
        }
        with quiet():
            arrays = ocp.load(str(path / _ARRAYS), target)
    except Exception as error:
        raise ThinwireError(f"The codebooks in {path} are incomplete or damaged; calibrate again.") from error
    try:
        for site, of_site in manifest.shapes.items():
            for name, shape in of_site.items():
                if list(arrays[site][name].shape) != shape:
                    raise ValueError(f"{name} at site {site} has shape {arrays[site][name].shape}, not {tuple(shape)}")
        arrays = unpack(arrays)
        _check_arrays(manifest, arrays)
        if _hash(arrays) != manifest.arrays_sha256:
            raise ValueError("their hash is not what the manifest says")
    except ValueError as error:
        raise ThinwireError(f"The codebooks in {path} are damaged: {error}; calibrate again.") from error
    return CodebookSet(manifest, arrays)
