"""One checkpoint on disk: a folder ``step-000001200`` with ``about.json`` and ``arrays/``, an orbax checkpoint.

A checkpoint is whole or not there: it is written and flushed under another name, and then renamed. Reading trusts
nothing: each array must have the shape, type and hash that ``about.json`` says, and that file holds a hash of itself.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp

from thinwire.codebooks.folders import check_room, reason, whole_folder
from thinwire.disk import quiet
from thinwire.errors import ThinwireError

Arrays = dict[str, np.ndarray]
About = dict[str, Any]

FORMAT = 1
ABOUT, ARRAYS = "about.json", "arrays"
_STEP = re.compile(r"step-(\d{9,})")
# What a checkpoint may need beyond its arrays.
_MARGIN_BYTES = 1 << 20


class DamagedError(Exception):
    """A checkpoint is not what was saved; the message says in what, in a few words."""


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:09d}"


def steps_in(folder: Path) -> list[int]:
    """The steps whose checkpoints are there, in order; their content is not looked at."""
    if not folder.is_dir():
        return []
    matches = (_STEP.fullmatch(path.name) for path in folder.iterdir())
    steps = sorted(int(match.group(1)) for match in matches if match)
    return [step for step in steps if path_of(folder, step).is_dir()]


def needed_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """What a checkpoint of these arrays takes on the disk, at most."""
    return sum(array.nbytes for array in arrays.values()) + _MARGIN_BYTES


def write(folder: Path, step: int, arrays: Arrays, about: About) -> None:
    """Saves a checkpoint, whole or not at all, over one of the same step if there is one.

    Args:
        folder: where checkpoints are; made if it is not there.
        step: how many steps were done.
        arrays: by name, of any shape and type.
        about: what JSON can hold.

    Raises:
        ThinwireError: it could not be written; other checkpoints are as they were.
    """
    try:
        with whole_folder(path_of(folder, step)) as fresh:
            check_room(fresh, needed_bytes(arrays))
            # An array without values is told by its shape, and the checkpoint library would refuse it.
            with quiet(), _storage():
                ocp.save(str(fresh / ARRAYS), {name: array for name, array in arrays.items() if array.size})
            (fresh / ABOUT).write_text(_describe(step, arrays, about), encoding="utf-8")
    except (OSError, ValueError) as error:  # a ValueError is how the checkpoint library tells of a full disk
        raise cannot_save(folder, step, error) from error


def cannot_save(folder: Path, step: int, error: BaseException) -> ThinwireError:
    """The sentence for a checkpoint that could not be written."""
    return ThinwireError(
        f"the checkpoint of step {step} could not be saved to {folder}: {reason(error)}; make room or make the folder "
        "writable, and resume from the checkpoint before, which is whole."
    )


def _storage() -> ocp.Context:
    """Arrays are written as they are: noisy weights hardly get smaller, and the caller has made a copy already."""
    context = ocp.Context()
    context.array.saving.use_compression = False
    context.memory.deepcopy_host_arrays = False
    return context


def _describe(step: int, arrays: Arrays, about: About) -> str:
    told = {name: {"shape": list(a.shape), "dtype": str(a.dtype), "sha256": _hash(a)} for name, a in arrays.items()}
    document = {"format": FORMAT, "step": step, "about": about, "arrays": told}
    return json.dumps({**document, "sha256": _hash_of_json(document)}, indent=1, allow_nan=False) + "\n"


def _hash(array: np.ndarray) -> str:
    # As bytes, since bfloat16 is no type that Python's buffers know.
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _hash_of_json(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


def remove(folder: Path, step: int) -> None:
    """Removes a checkpoint: at once by name, so that no half of one is ever found.

    Raises:
        OSError: it cannot be removed.
    """
    place = path_of(folder, step)
    aside = folder / f".{place.name}.removed"
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what a killed run has left half written or half removed; only for the run that has the folder's lock."""
    for path in folder.glob(".step-*.*"):
        shutil.rmtree(path, ignore_errors=True)


def read_about(folder: Path, step: int) -> About:
    """What was said about a checkpoint when it was saved, without its arrays.

    Raises:
        DamagedError: it cannot be read, or was changed.
    """
    return _description(folder, step)["about"]


def _description(folder: Path, step: int) -> dict[str, Any]:
    try:
        found = json.loads((path_of(folder, step) / ABOUT).read_text(encoding="utf-8"))
    except OSError as error:
        raise DamagedError(f"{ABOUT} cannot be read: {reason(error)}") from error
    except ValueError as error:  # neither JSON nor UTF-8
        raise DamagedError(f"{ABOUT} is no JSON") from error
    if not isinstance(found, dict):
        raise DamagedError(f"{ABOUT} is not a JSON object")
    if found.get("format") != FORMAT:
        raise DamagedError(f"{ABOUT} has format {found.get('format')!r}, and this version reads {FORMAT}")
    if found.pop("sha256", None) != _hash_of_json(found):
        raise DamagedError(f"{ABOUT} was changed")
    return found


def read(folder: Path, step: int) -> tuple[Arrays, About]:
    """A checkpoint's arrays, all of them checked, and what was said about it.

    Raises:
        DamagedError: something is missing, cannot be read or was changed.
    """
    found = _description(folder, step)
    told = found["arrays"]
    empty = {name: np.empty(entry["shape"], np.dtype(entry["dtype"])) for name, entry in told.items()}
    try:
        with quiet():
            arrays = ocp.load(
                str(path_of(folder, step) / ARRAYS), {name: array for name, array in empty.items() if array.size}
            )
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: a missing file, a torn one and a wrong number are each told differently
        raise DamagedError("its arrays are incomplete or unreadable") from error
    arrays = {name: np.asarray(arrays[name]) if array.size else array for name, array in empty.items()}
    for name, entry in told.items():
        array = arrays[name]
        if [list(array.shape), str(array.dtype)] != [entry["shape"], entry["dtype"]] or _hash(array) != entry["sha256"]:
            raise DamagedError(f"{name} is not what was saved")
    return arrays, found["about"]
