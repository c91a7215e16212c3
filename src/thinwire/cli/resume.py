"""--resume: a measurement that was broken off goes on from the file that --json names, if it was the same one."""

import argparse
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from thinwire.errors import ThinwireError

T = TypeVar("T")
OPTION = "--resume"


def add_resume(parser: argparse.ArgumentParser, what: str = "go on from what FILE holds already") -> None:
    """Declares the option."""
    parser.add_argument(OPTION, action="store_true", help=what)


def command_of(job: str, arguments: Sequence[str]) -> str:
    """The command that would measure all of it in one run."""
    return shlex.join(["python", "-m", job, *(one for one in arguments if one != OPTION)])


def check_file(path: str | Path | None) -> None:
    """Raises ThinwireError where there is nothing to go on from."""
    if path is None or not Path(path).is_file():
        raise ThinwireError(f"{OPTION} goes on from the file that --json names, and there is none; leave it out.")


def read_earlier(
    path: str | Path | None,
    job: str,
    read: Callable[[Mapping[str, Any]], T],
    document: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> T:
    """What an earlier run has found.

    Args:
        path: the file that it has written.
        job: whose file it must be, for messages.
        read: takes what is wanted out of the earlier document; what it cannot find raises KeyError or TypeError.
        document: of this run.
        settings: names in both documents that must be the same for two runs to be one.

    Raises:
        ThinwireError: there is no file, it is none of this job's, or its settings were others.
    """
    check_file(path)
    now = document or {}
    try:
        old = json.loads(Path(str(path)).read_text(encoding="utf-8"))
        for key in settings:
            if old[key] != now[key]:
                raise ThinwireError(f"{path} was measured with {key} {old[key]}, not {now[key]}: start afresh.")
        return read(old)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ThinwireError(f"{path} is no result of {job} ({error!r}): start afresh.") from error
