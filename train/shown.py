"""What training jobs show while they run, and in the end."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from thinwire.cli import console
from thinwire.cli.programs import keep_programs
from thinwire.training.artefact import Artefact
from thinwire.training.bar import Pace

Progress = Callable[[int, Mapping[str, float]], None]


@contextmanager
def shown(steps: int) -> Iterator[Progress]:
    """A bar with the loss and the time that is left."""
    keep_programs()
    with console.progress("training", steps) as bar:
        pace: list[Pace] = []

        def progress(step: int, record: Mapping[str, float]) -> None:
            if not pace:
                pace.append(Pace(steps, step - 1))
            found = [f"{name.removeprefix('eval/')} {value:.4g}" for name, value in record.items() if "eval/" in name]
            bar.describe(", ".join(["training", pace[0].told(step, record["loss"]), *found]))
            bar.update(step, steps)

        yield progress


def command_of(module: str, arguments: list[str]) -> str:
    """What the user typed, without the option to go on."""
    return shlex.join(["python", "-m", module, *(a for a in arguments if a != "--session.resume")])


def tell(made: Artefact, folder: Path) -> None:
    """What came out of it."""
    table = Table(title=f"{made.card.model}, trained for {made.card.strategy}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in made.card.figures.items():
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.show(table)
    console.say(f"saved in {folder}")
