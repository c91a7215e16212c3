"""What a calibration has learnt so far, kept on disk so that one that was killed goes on where it was."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.weights.cache import atomic_write, explain_os_errors

Learnt = dict[str, np.ndarray]
# A step's name and what learns it -> what it has learnt, now or in an earlier run.
Once = Callable[[str, Callable[[], Learnt]], Learnt]


class Unfinished:
    """Arrays by step, in a hidden folder beside the result; of one setting only, others' are removed.

    Args:
        place: where the result will be.
        setting: everything that the arrays depend on, for JSON.
    """

    def __init__(self, place: Path, setting: dict[str, Any]):
        digest = hashlib.sha256(json.dumps(setting, sort_keys=True, default=str).encode()).hexdigest()
        pattern = f".{place.name}.unfinished-"
        self.folder = place.with_name(pattern + digest[:16])
        for other in place.parent.glob(f"{pattern}*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    @property
    def steps(self) -> int:
        """How many steps an earlier run has left."""
        return len(list(self.folder.glob("*.npz")))

    def once(self, name: str, learn: Callable[[], Learnt]) -> Learnt:
        """What ``learn`` gives, or gave in an earlier run."""
        path = self.folder / f"{name}.npz"
        if path.exists():
            with explain_os_errors(self.folder), np.load(path, allow_pickle=False) as kept:
                return dict(kept)
        learnt = {key: np.asarray(value) for key, value in learn().items()}
        with atomic_write(path) as file:
            np.savez(file, **learnt)  # type: ignore[arg-type]
        return learnt

    def remove(self) -> None:
        """Forgets everything, once the result is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)
