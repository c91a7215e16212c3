"""Event files, as TensorBoard reads them; written by tensorboardX, which Thinwire does not install by itself.

Its own writer hands records to a thread, which a full disk ends unheard; here each is written before the call returns.
"""

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from thinwire.errors import ThinwireError

BINS = 64  # of a histogram


def library() -> SimpleNamespace:
    """The parts of tensorboardX that are needed here.

    Raises:
        ThinwireError: it is not installed.
    """
    try:
        summary, files, events = (
            importlib.import_module(f"tensorboardX.{part}")
            for part in ("summary", "event_file_writer", "proto.event_pb2")
        )
    except ImportError as error:
        raise ThinwireError(
            "a log for TensorBoard needs the package tensorboardX: pip install 'thinwire[tensorboard]', or do without."
        ) from error
    return SimpleNamespace(
        summary=summary, EventsWriter=files.EventsWriter, Event=events.Event, SessionLog=events.SessionLog
    )


class EventFile:
    """One more file in a folder of event files.

    Args:
        folder: made if it is not there.
        after: the step that a resumed run goes on from: what TensorBoard has read of later steps, it forgets. None for
            a new run.

    Raises:
        ThinwireError: tensorboardX is not installed.
        OSError: the folder cannot be written; so also ``scalars`` and ``histograms``.
    """

    def __init__(self, folder: Path, after: int | None = None):
        self._tools = library()
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names, which say the second; two may be of the same.
        suffix = f".{len(list(folder.iterdir())):04d}"
        self._writer = self._tools.EventsWriter(str(folder / "events"), suffix)
        if after is not None:
            start = self._tools.SessionLog(status=self._tools.SessionLog.START)
            self._writer.write_event(self._tools.Event(wall_time=time.time(), step=after + 1, session_log=start))
        self._writer.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers of a step."""
        self._write(step, [self._tools.summary.scalar(name, value) for name, value in values.items()])

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes how values are spread; they are finite."""
        make = self._tools.summary.histogram
        self._write(step, [make(name, array, BINS) for name, array in values.items() if array.size])

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, step: int, summaries: list) -> None:
        for summary in summaries:
            self._writer.write_event(self._tools.Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()
