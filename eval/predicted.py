"""Quality, bytes and predicted latency by strategy, four devices, 1024 tokens, as a section of docs/results.md.

    python -m eval.predicted --json predicted.json

The options are those of ``thinwire compare``; what is not given is as in DEFAULTS. Codebooks that are missing are
learnt first (python -m train.codebooks configs/smollm2_codebooks.py learns them all in one pass).
"""

import argparse
import shlex
import sys

from thinwire.cli import compare, inputs, main
from thinwire.reports.json_file import plain
from thinwire.reports.sections import read_section, write_section
from thinwire.reports.table import markdown_section

STRATEGIES = (
    "single",
    "sequence:float32",
    "sequence:bfloat16",
    "sequence:int8",
    "sequence:int4",
    "sequence:int2",
    "sequence:quality",
    "sequence:balanced",
    "sequence:extreme",
    "sequence:vq:groups=32:size=256",
    "sequence:vq:groups=1",
    "sequence:paper",
    "tensor:float32",
    "tensor:int8",
)
DEFAULTS = {"devices": 4, "tokens": 1024, "windows": 2, "strategies": ",".join(STRATEGIES)}
SECTION = "predicted"


def run(arguments: list[str]) -> int:
    """Compares, writes the rows and puts the table in the document."""
    parser = argparse.ArgumentParser(prog="python -m eval.predicted", description=__doc__, allow_abbrev=False)
    compare.add_arguments(parser)
    parser.add_argument("--docs", default="docs/results.md", metavar="FILE", help="default: docs/results.md")
    parser.set_defaults(**DEFAULTS)
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.docs)
    read_section(args.docs, SECTION)  # said before an hour of work
    args.command_line = shlex.join(["python", "-m", "eval.predicted", *arguments])
    document = compare.measure(args)
    write_section(args.docs, SECTION, markdown_section(plain(document)))
    return 0


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
