"""Checkpoints of a training run: saved while it goes on, kept in number, restored onto any number of devices.

`save` copies the state to the host and returns; a thread of its own writes it. Whatever happens meanwhile, a killed
process or a full disk, the former checkpoints stay as they are. One run at a time has a folder, by a lock that ends
with the process; reading needs no lock.
"""

import json
import os
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import numpy as np

from thinwire.codebooks.folders import check_room, reason
from thinwire.disk import take
from thinwire.errors import ThinwireError
from thinwire.training import checkpoint_files as files
from thinwire.training.checkpoint_files import About, Arrays, DamagedError

State = TypeVar("State")

_LOCK = ".lock"


class DamagedCheckpointError(ThinwireError):
    """A checkpoint is not what was saved.

    Attributes:
        instead: the newest step before it whose checkpoint is whole; None if there is none.
    """

    def __init__(self, sentence: str, instead: int | None):
        super().__init__(sentence)
        self.instead = instead


def latest(folder: str | Path) -> int | None:
    """The newest step that a folder has a checkpoint of; None if it has none or is not there."""
    steps = files.steps_in(Path(folder))
    return steps[-1] if steps else None


def about(folder: str | Path, step: int | None = None) -> About:
    """What was said about a checkpoint (the newest by default) when it was saved; its arrays are not read.

    Raises:
        ThinwireError: there is none.
        DamagedCheckpointError: it is damaged.
    """
    folder = Path(folder).absolute()
    step = _chosen(folder, step)
    try:
        return files.read_about(folder, step)
    except DamagedError as error:
        raise _damaged(folder, step, error) from error


def restore(folder: str | Path, step: int | None, like: State) -> tuple[int, State, About]:
    """A state as it was saved, on the devices that ``like`` names.

    Args:
        folder: where the checkpoints are.
        step: which; the newest if None.
        like: a tree of the state's structure, shapes and types. A leaf that is an array of JAX, or a
            ``jax.ShapeDtypeStruct`` with a sharding, also says where its array goes, whatever it was saved from; a
            NumPy array asks for a NumPy array.

    Returns:
        The step, the state, and what was said about it.

    Raises:
        ThinwireError: there is no such checkpoint, or it is of a state of another structure.
        DamagedCheckpointError: it is damaged.
    """
    folder = Path(folder).absolute()
    step = _chosen(folder, step)
    try:
        arrays, told = files.read(folder, step)
    except DamagedError as error:
        raise _damaged(folder, step, error) from error
    wanted = _named(like)
    _check_structure(folder, step, arrays, wanted)
    leaves = [_placed(arrays.pop(name), leaf) for name, leaf in wanted.items()]
    return step, jax.tree.unflatten(jax.tree.structure(like), leaves), told


def _chosen(folder: Path, step: int | None) -> int:
    steps = files.steps_in(folder)
    if not steps:
        raise ThinwireError(f"there is no checkpoint in {folder}: name the folder of a run that has saved one.")
    if step is not None and step not in steps:
        raise ThinwireError(
            f"there is no checkpoint of step {step} in {folder}: there are those of {', '.join(map(str, steps))}."
        )
    return steps[-1] if step is None else step


def _damaged(folder: Path, step: int, error: DamagedError) -> DamagedCheckpointError:
    before = [other for other in files.steps_in(folder) if other < step]
    instead = next((other for other in reversed(before) if _whole(folder, other)), None)
    place = files.path_of(folder, step).name
    way_out = (
        "none before it is whole, so begin anew in another folder"
        if instead is None
        else f"remove {place} to go on from step {instead}, the newest before it that is whole"
    )
    return DamagedCheckpointError(
        f"the checkpoint of step {step} in {folder} is damaged ({error}): {way_out}.", instead
    )


def _whole(folder: Path, step: int) -> bool:
    try:
        files.read(folder, step)
    except DamagedError:
        return False
    return True


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by the path to each, in order."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}
    if len(named) != len(pairs):
        raise ValueError("two leaves of the state have the same name")
    return named


def _check_structure(folder: Path, step: int, arrays: Arrays, wanted: Mapping[str, Any]) -> None:
    for name in [*wanted, *arrays]:
        here = f"{tuple(arrays[name].shape)} {arrays[name].dtype}" if name in arrays else "nothing"
        there = f"{tuple(wanted[name].shape)} {wanted[name].dtype}" if name in wanted else "nothing"
        if here != there:
            raise ThinwireError(
                f"the checkpoint of step {step} in {folder} is of another model or recipe: it holds {here} as {name}, "
                f"where this run has {there}; resume with the settings it was saved with."
            )


def _placed(array: np.ndarray, like: Any) -> Any:
    if isinstance(like, np.ndarray | np.generic):
        return array
    committed = not isinstance(like, jax.Array) or like.committed
    sharding = getattr(like, "sharding", None) if committed else None
    return jax.device_put(array, sharding)


class Checkpoints:
    """The checkpoints of one run; use it in a ``with`` block, or call ``close``.

    Args:
        folder: made if it is not there; what a killed run has left half written in it is removed.
        keep: how many of the newest checkpoints stay.
        keep_every: those of steps that are multiples of this stay, too.

    Raises:
        ThinwireError: ``keep`` or ``keep_every`` is below 1, the folder cannot be written, or another run has it.
    """

    def __init__(self, folder: str | Path, keep: int = 3, keep_every: int | None = None):
        for name, value in (("keep", keep), ("keep_every", keep_every)):
            if value is not None and value < 1:
                raise ThinwireError(f"{name} is {value}: keep at least 1 checkpoint.")
        self.folder, self.keep, self.keep_every = Path(folder).absolute(), keep, keep_every
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = take(self.folder / _LOCK)
        except OSError as error:
            raise ThinwireError(
                f"checkpoints cannot be saved to {self.folder}: {reason(error)}; name another folder."
            ) from error
        if handle is None:
            raise ThinwireError(f"another run has the folder {self.folder}: wait for it, or name another folder.")
        self._unlock = weakref.finalize(self, os.close, handle)
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._saving: Future[None] | None = None
        self._last: int | None = None  # the step that this run has saved or restored last
        files.sweep(self.folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ThinwireError:
            if kind is None:  # otherwise what has ended the run matters more
                raise

    def close(self) -> None:
        """Waits for the save that is under way and gives the folder back.

        Raises:
            ThinwireError: that save has failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._unlock()

    def latest(self) -> int | None:
        """The newest step that there is a checkpoint of; None if there is none."""
        return latest(self.folder)

    def about(self, step: int | None = None) -> About:
        """As the function ``about``: what was said about a checkpoint, to be compared before its arrays are read."""
        return about(self.folder, step)

    def check_new(self) -> None:
        """Raises ThinwireError where the folder has checkpoints, for a run that begins and does not resume."""
        steps = files.steps_in(self.folder)
        if steps:
            raise ThinwireError(
                f"{self.folder} has the checkpoint of step {steps[-1]} of an earlier run: resume that, or name another "
                "folder."
            )

    def restore(self, step: int | None, like: State) -> tuple[int, State, About]:
        """As the function ``restore``; checkpoints of later steps are replaced by what this run saves next."""
        self.wait()
        found = restore(self.folder, step, like)
        self._last = found[0]
        return found

    def save(self, step: int, state: Any, about: Mapping[str, Any]) -> None:
        """Begins to save a state: it is copied now and written while the run goes on.

        First waits for the save before. The step that was saved or restored last is not saved again.

        Args:
            step: how many steps were done.
            state: a tree of arrays (of JAX, on any devices of this process, or of NumPy).
            about: what JSON can hold: the run's configuration, its data, versions.

        Raises:
            ThinwireError: the save before has failed, the disk has no room for this one, or the folder has checkpoints
                of an earlier run that was not resumed.
            ValueError: the step is before the last one, or ``about`` holds NaN.
        """
        self.wait()
        if step == self._last:
            return
        if self._last is None:
            self.check_new()
        elif step < self._last:
            raise ValueError(f"step {step} is before step {self._last}, which was saved or restored")
        told = json.loads(json.dumps(about, allow_nan=False))
        # Copies: the next step may be given the state's own memory to write to.
        arrays = {name: np.array(leaf) for name, leaf in _named(state).items()}
        try:
            check_room(self.folder, files.needed_bytes(arrays))
        except OSError as error:
            raise files.cannot_save(self.folder, step, error) from error
        self._saving = self._thread.submit(self._write, step, arrays, told)

    def check(self) -> None:
        """Raises ThinwireError where a save in the background has failed by now; waits for nothing."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Waits until what was given to ``save`` is on the disk.

        Raises:
            ThinwireError: it could not be written; the former checkpoints are as they were.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def _write(self, step: int, arrays: Arrays, told: About) -> None:
        files.write(self.folder, step, arrays, told)
        self._last = step
        steps = files.steps_in(self.folder)
        # Later ones are of a future that this run has gone back from.
        past = [other for other in steps if other <= step]
        kept = {*past[-self.keep :], *(other for other in past if self.keep_every and other % self.keep_every == 0)}
        try:
            for other in steps:
                if other not in kept:
                    files.remove(self.folder, other)
        except OSError as error:
            raise ThinwireError(
                f"an old checkpoint in {self.folder} cannot be removed: {reason(error)}; make the folder writable."
            ) from error
