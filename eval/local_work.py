"""What each device computes in a pass, in CPU seconds, alone on this machine: nothing is sent, nobody else runs.

    python -m eval.local_work --devices 2,4 --dtype bfloat16 --json local.json
    python -m eval.local_work --model shape:vit-base --strategy sequence:vq:groups=1 --devices 4

Beside it stands how many times more the single device computes: the speedup that there would be without links, and
without hosts that share caches and memory.
"""

import argparse
import shlex
import sys
from typing import Any

from thinwire.benchmark.local import local_rows
from thinwire.cli import console, inputs, main
from thinwire.cli.cores import on_cores
from thinwire.errors import ThinwireError
from thinwire.number_lists import parse_counts
from thinwire.reports.json_file import write_json
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.reports.terminal import plain_table
from thinwire.strategies import Sequence, parse_strategy

COLUMNS = ("strategy", "device", "tokens", "CPU", "single / this")


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes the files."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.local_work", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    parser.add_argument(
        "--strategy", default="sequence:balanced", metavar="S", help="one that splits tokens (%(default)s)"
    )
    parser.add_argument("--devices", default="2,4", metavar="N,...", help="numbers of devices (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="of the prompt (default: %(default)s)")
    parser.add_argument("--split", default="balanced", metavar="A/B/...", help="shares, or even (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="turns (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    inputs.add_docs(parser, "local-work")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    strategy = parse_strategy(args.strategy)
    if not isinstance(strategy, Sequence):
        raise ThinwireError(f"--strategy {args.strategy} splits no tokens; use sequence or ring.")
    devices = parse_counts("--devices", args.devices)
    if args.repeats < 1:
        raise ThinwireError(f"--repeats is {args.repeats}; one repeat is the least.")
    split = None if args.split == "even" else inputs.parse_split(args.split)
    with on_cores(1):
        model = inputs.open_model(args.model)
        rows = local_rows(model, strategy, args.tokens, devices, split, args.dtype, args.repeats, console.remark)
    document: dict[str, Any] = {
        "model": f"{model.name}, {args.dtype}, {args.tokens} tokens, median of {args.repeats} turns on one core",
        **inputs.environment(shlex.join(["python", "-m", "eval.local_work", *arguments])),
    }
    console.show(plain_table("Local work", COLUMNS, map(cells, rows), ()))
    if args.json is not None:
        write_json(args.json, {**document, "rows": rows})
    if args.docs is not None:
        table = markdown_table(COLUMNS, [cells(row) for row in rows])
        write_section(args.docs, args.section, markdown_head(document, "CPU seconds of each device's work") + table)
    return 0


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as it is shown."""
    place = f"{row['device']} of {row['devices']}"
    return row["strategy"], place, f"{row['tokens']:,}", f"{row['cpu_s']:.3g} s", f"{row['single_over_this']:.2f}×"


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
