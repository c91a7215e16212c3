"""`thinwire doctor`: the checks of thinwire.cluster.doctor, printed."""

import argparse
import dataclasses

from rich.table import Table
from rich.text import Text

from thinwire.cli import console
from thinwire.cluster.doctor import examine
from thinwire.reports.json_file import to_json

NAME = "doctor"
HELP = "check whether this machine is fit, and say what to do where it is not"
EXAMPLES = """\
thinwire doctor
thinwire doctor --json
"""

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-speed", action="store_true", help="leave out the measurement of the compute rate (2 s)")


def run(args: argparse.Namespace) -> int:
    """Print every check; 1 if there is a problem."""
    checks = examine(speed=not args.no_speed)
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warning", "problem")}
    if args.json:
        console.say(to_json({"checks": [dataclasses.asdict(check) for check in checks], "counts": counts}).rstrip())
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in checks:
            found = Text(check.found)
            if check.advice:
                found.append(f"\n→ {check.advice}", style="bold" if check.status == "problem" else "")
            table.add_row(Text(check.status, style=_STYLES[check.status]), Text(check.name), found)
        console.show(table)
        console.say(_verdict(counts["problem"], counts["warning"]))
    return 1 if counts["problem"] else 0


def _verdict(problems: int, warnings: int) -> str:
    def some(count: int, word: str) -> str:
        return f"{count} {word}{'' if count == 1 else 's'}"

    if problems:
        return f"\n{some(problems, 'problem')}, {some(warnings, 'warning')}: solve the problems first."
    return f"\nThis machine is fit for thinwire{', with ' + some(warnings, 'warning') if warnings else ''}."
