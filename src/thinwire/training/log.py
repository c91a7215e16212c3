"""The curve of a training run: a line of JSON a record in ``metrics.jsonl``, and TensorBoard's files if asked for.

A resumed run first cuts off what was told after the step that it goes on from, so that no step is there twice.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from thinwire.codebooks.folders import reason
from thinwire.disk import write_whole
from thinwire.errors import ThinwireError
from thinwire.training.events import EventFile, library

FILE, TENSORBOARD = "metrics.jsonl", "tensorboard"
BINS = 32  # of a histogram in the JSON file

Values = Shaped[Array | np.ndarray, "*shape"]


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run, in order; a last line that a kill has torn is left out.

    Raises:
        ThinwireError: there is no log in the folder.
    """
    path = Path(folder) / FILE
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ThinwireError(f"{path} cannot be read: {reason(error)}; name the folder of a training run.") from error
    return [record for record in map(_record, lines) if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None where it is no whole record."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


class MetricsLog:
    """Writes records as they come, each at once; use it in a ``with`` block, or call ``close``.

    Args:
        folder: of the run; made if it is not there.
        tensorboard: write event files for TensorBoard, too.
        after: the step that a resumed run goes on from (0: from the beginning): records of later steps are cut off.
            None for a new run.

    Raises:
        ThinwireError: a new run's folder has a log already, the folder cannot be written, or the library for
            TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path, tensorboard: bool = False, after: int | None = None):
        self.path = Path(folder) / FILE
        self._events = None
        if tensorboard:
            library()  # whether it is there
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._cut(after)
            # Without a buffer, so that a line is with the system at once and nothing is left over after a failure.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        if tensorboard:
            try:
                self._events = EventFile(self.path.parent / TENSORBOARD, after)
            except OSError as error:
                self._file.close()
                raise self._unwritable(error) from error

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Tells numbers (such as ``loss``) of a step; NaN and infinity are null in the JSON file.

        Raises:
            ThinwireError: the disk is full or cannot be written.
            ValueError: a value bears the name ``step``, ``time`` or ``histograms``.
        """
        numbers = {name: float(value) for name, value in values.items()}
        self._write(step, {name: value if math.isfinite(value) else None for name, value in numbers.items()})
        if self._events is not None:
            self._told(self._events.scalars, step, numbers)

    def histograms(self, step: int, values: Mapping[str, Values]) -> None:
        """Tells how values are spread, such as how often each codeword of a codebook was used.

        In the JSON file these are ``counts`` between ``edges``, one more than counts; values that are not finite are
        left out.

        Raises:
            ThinwireError: the disk is full or cannot be written.
        """
        arrays = {name: np.asarray(value, np.float64).reshape(-1) for name, value in values.items()}
        finite = {name: array[np.isfinite(array)] for name, array in arrays.items()}
        told = {}
        for name, array in finite.items():
            counts, edges = np.histogram(array, BINS)
            told[name] = {"counts": counts.tolist(), "edges": edges.tolist()}
        self._write(step, {"histograms": told}, ())
        if self._events is not None:
            self._told(self._events.histograms, step, finite)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            with contextlib.suppress(OSError):  # of a full disk, which has been told
                self._events.close()

    def _cut(self, after: int | None) -> None:
        old = self.path.read_bytes()
        if after is None:
            if old:
                raise ThinwireError(
                    f"{self.path} is the log of an earlier run: resume that run, or name another folder."
                )
            return
        pairs = ((line, _record(line)) for line in old.splitlines(keepends=True))
        kept = b"".join(line for line, record in pairs if record is not None and record["step"] <= after)
        if kept != old:
            write_whole(self.path, kept)

    def _write(
        self, step: int, told: Mapping[str, Any], reserved: tuple[str, ...] = ("step", "time", "histograms")
    ) -> None:
        if taken := [name for name in reserved if name in told]:
            raise ValueError(f"{taken[0]} is the name of something else in a record")
        record = {"step": int(step), "time": round(time.time(), 3), **told}
        line = memoryview((json.dumps(record, allow_nan=False) + "\n").encode())
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def _told(self, tell: Callable[[int, Mapping[str, Any]], None], step: int, values: Mapping[str, Any]) -> None:
        try:
            tell(int(step), values)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ThinwireError:
        return ThinwireError(f"{self.path} cannot be written: {reason(error)}; make room or name another folder.")
