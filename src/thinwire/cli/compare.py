"""`thinwire compare`: one text by several strategies, quality, bytes and predicted latency side by side."""

import argparse
from typing import Any

from thinwire.cli import console, inputs
from thinwire.evaluation.compare import compare
from thinwire.models.families import FAMILIES
from thinwire.reports.html import write_html
from thinwire.reports.json_file import write_json
from thinwire.reports.table import comparison_table
from thinwire.strategies import Strategy, parse_strategies
from thinwire.weights.load import LoadedModel

NAME = "compare"
HELP = "run one prompt by several strategies: quality, bytes, predicted latency"
EXAMPLES = """\
thinwire compare --model smollm2-135m --devices 4 --tokens 1024
thinwire compare --strategies single,sequence:vq:groups=64:size=16,tensor:int8 --json rows.json --html report.html
thinwire compare --devices 3 --split 2/1/1 --windows 8 --strategies sequence:int4,ring:int4:layout=zigzag
"""

DEFAULT_STRATEGIES = (
    "single,sequence:float32,sequence:int8,sequence:int4,sequence:vq:groups=16,tensor:float32,tensor:int8"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    inputs.add_devices(parser)
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="tokens of a window (default: 1024)")
    parser.add_argument(
        "--windows", type=int, default=1, metavar="W", help="windows of text to average over (default: 1)"
    )
    parser.add_argument(
        "--strategies", default=DEFAULT_STRATEGIES, metavar="A,B,...", help=f"default: {DEFAULT_STRATEGIES}"
    )
    parser.add_argument(
        "--text",
        default=inputs.DEFAULT_TEXT,
        metavar="NAME|FILE",
        help="the text that is read (default: held-out Wikipedia)",
    )
    inputs.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--html", metavar="FILE", help="write a report with plots, in one file")


def run(args: argparse.Namespace) -> int:
    """Compare, and show a table."""
    strategies = parse_strategies(args.strategies)
    model = inputs.open_model(args.model)
    document = compare_document(model, strategies, args)
    console.show(comparison_table(document["rows"], title(document)))
    if args.json:
        write_json(args.json, document)
    if args.html:
        write_html(args.html, document)
        console.say(f"report: {args.html}")
    return 0


def compare_document(model: LoadedModel, strategies: list[Strategy], args: argparse.Namespace) -> dict[str, Any]:
    """Runs the comparison; the rows and everything that a reader needs to make them again."""
    windows_WT = inputs.open_windows(model, args.text, "test", args.tokens, args.windows, args.seed)
    check_layouts(model, strategies, args)
    codecs_of = inputs.codecs_for(model, strategies, args.devices, args.codebooks, args.seed)
    with console.progress("comparing", 1 + len(strategies) * len(windows_WT)) as bar:
        result = compare(
            model, strategies, args.devices, windows_WT, codecs_of, args.split, args.dtype, lambda _: bar.advance()
        )
    return {
        "model": model.name,
        "model_sha256": model.sha256,
        "dtype": args.dtype,
        "devices": args.devices,
        "tokens": args.tokens,
        "windows": args.windows,
        "split": args.split,
        "prompt_source": "random token ids" if model.tokenizer is None else f"{args.text}, held-out part",
        "seed": args.seed,
        **inputs.environment(),
        "latency_model": result.latency_model,
        "rows": result.rows,
    }


def check_layouts(model: LoadedModel, strategies: list[Strategy], args: argparse.Namespace) -> None:
    """Says what cannot be split or coded before anything is computed."""

    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
        strategy.layout(dims, args.tokens, 1 if strategy.name == "single" else args.devices, args.split)


def title(document: dict[str, Any]) -> str:
    """What the table is of."""
    return (
        f"{document['model']}, {document['devices']} devices, {document['windows']} x {document['tokens']} tokens of "
        f"{document['prompt_source']}"
    )
