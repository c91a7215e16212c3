"""Jobs as configuration files describe them: a Python file with a ``CONFIG``, changed from the command line."""

import dataclasses
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import tyro

from thinwire.errors import ThinwireError
from thinwire.training.calibrate import CalibrationJob

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class CodebookRun:
    """Learning codebooks for several strategies from one pass over a text; what ``train/codebooks.py`` runs."""

    strategies: tuple[str, ...]  # as on thinwire's command line
    model: str = "smollm2-135m"
    devices: int = 4  # of tensor parallelism
    text: str = "wikipedia-excerpt"  # or a file
    job: CalibrationJob = dataclasses.field(default_factory=CalibrationJob)
    out: Path | None = None  # for one strategy only; the cache if None


def read_config(kind: type[Config], arguments: Sequence[str], prog: str) -> Config:
    """The ``CONFIG`` of the file that the first argument names, with the changes of the others: ``--job.windows 24``.

    Raises:
        ThinwireError: there is no such file, or no ``CONFIG`` of this kind in it.
        SystemExit: an argument is wrong, or asks for help.
    """
    if not arguments or arguments[0].startswith("-"):
        raise ThinwireError(f"name a configuration first: {prog} configs/NAME.py [--option value]...")
    path = Path(arguments[0])
    if not path.is_file():
        raise ThinwireError(f"there is no configuration {path}; see configs/ for those there are.")
    config = runpy.run_path(str(path)).get("CONFIG")
    if not isinstance(config, kind):
        raise ThinwireError(f"{path} holds no CONFIG of the kind {kind.__name__}, which {prog} runs.")
    return tyro.cli(kind, prog=f"{prog} {path}", args=list(arguments[1:]), default=config)
