"""`thinwire compare`: one text by several strategies, quality, bytes and predicted latency side by side."""

import argparse
import itertools
from typing import Any

from thinwire.cli import console, inputs, trained
from thinwire.errors import ThinwireError
from thinwire.evaluation.compare import compare
from thinwire.kernels.choice import chosen
from thinwire.models.families import FAMILIES
from thinwire.reports.html import write_html
from thinwire.reports.json_file import write_json
from thinwire.reports.table import comparison_table
from thinwire.strategies import Single, Strategy, parse_strategies
from thinwire.strategies.balance import shares_of
from thinwire.training.artefact import Artefact
from thinwire.weights.load import LoadedModel

NAME = "compare"
HELP = "run one prompt by several strategies: quality, bytes, predicted latency"
EXAMPLES = """\
thinwire compare --model smollm2-135m --devices 4 --tokens 1024
thinwire compare --strategies single,sequence:vq:groups=64:size=16,tensor:int8 --json rows.json --html report.html
thinwire compare --trained my-adapter --windows 8
thinwire compare --devices 3 --split 2/1/1 --windows 8 --strategies sequence:int4,ring:int4:layout=zigzag
"""

DEFAULT_STRATEGIES = (
    "single,sequence:float32,sequence:int8,sequence:int4,sequence:vq:groups=16,tensor:float32,tensor:int8"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    trained.add_trained(parser)
    inputs.add_dtype(parser)
    inputs.add_kernels(parser)
    inputs.add_devices(parser)
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="tokens of a window (default: 1024)")
    parser.add_argument(
        "--windows", type=int, default=1, metavar="W", help="windows of text to average over (default: 1)"
    )
    parser.add_argument(
        "--strategies", metavar="A,B,...", help=f"default: {DEFAULT_STRATEGIES}; with --trained its own and exact ones"
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
    measure(args)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Compares as the options say: shows a table, writes the files asked for, returns what is in them."""
    artefact = trained.read(args.trained)
    strategies = parse_strategies(args.strategies or trained.strategies(artefact, DEFAULT_STRATEGIES))
    inputs.check_outputs(args.json, args.html)
    check_numbers(strategies, args)
    model = trained.open_model(args.model, artefact)
    document = {**Comparing(model, strategies, args, artefact).document(), **trained.facts(artefact)}
    console.show(comparison_table(document["rows"], title(document), console.width(), document["windows"]))
    if args.json is not None:
        write_json(args.json, document)
    if args.html is not None:
        write_html(args.html, document)
        console.say(f"report: {args.html}")
    return document


def check_numbers(strategies: list[Strategy], args: argparse.Namespace) -> None:
    """Says what can be known to be wrong before a model is loaded."""
    inputs.check_amount(args.tokens, args.windows)
    alone = all(isinstance(strategy, Single) for strategy in strategies)
    inputs.check_devices(args.devices, args.split, None if alone else args.tokens)


class Comparing:
    """What a comparison reads: everything that can be wrong with it is said when it is made, before it runs."""

    def __init__(
        self, model: LoadedModel, strategies: list[Strategy], args: argparse.Namespace, artefact: Artefact | None = None
    ):
        self.model, self.strategies, self.args = model, strategies, args
        check_layouts(model, strategies, args)
        self.windows_WT = inputs.open_windows(model, args.text, "test", args.tokens, args.windows, args.seed)
        self.codecs_of = inputs.codecs_for(model, strategies, args.devices, args.codebooks, args.seed, trained=artefact)

    def document(self) -> dict[str, Any]:
        """Runs the comparison; the rows and everything that a reader needs to make them again."""
        model, args = self.model, self.args
        steps = 1 + len(self.strategies) * len(self.windows_WT)
        longest = max(len(strategy.spec()) for strategy in self.strategies)
        with console.progress("comparing", steps) as bar:
            begun = itertools.count()

            def tell(what: str) -> None:
                bar.update(next(begun))
                bar.describe(f"{what:<{longest}}")

            result = compare(
                model, self.strategies, args.devices, self.windows_WT, self.codecs_of, args.split, args.dtype, tell
            )
            bar.update(steps)
        return {
            "model": model.name,
            "model_sha256": model.sha256,
            "dtype": args.dtype,
            "kernels": chosen(),
            "devices": args.devices,
            "tokens": args.tokens,
            "windows": args.windows,
            "split": inputs.split_written(args.split, args.tokens, args.devices),
            "prompt_source": inputs.source(model, f"{args.text}, held-out part"),
            "seed": args.seed,
            **inputs.environment(args.command_line),
            "latency_model": result.latency_model,
            "rows": result.rows,
        }


def check_layouts(model: LoadedModel, strategies: list[Strategy], args: argparse.Namespace) -> None:
    """Says what cannot be split or coded before anything is computed."""
    dims = FAMILIES[model.family].dims(model.config)
    if not dims.language:
        raise ThinwireError(
            f"{model.name} gives features and no perplexity to compare; measure an encoder of text with "
            "python -m eval.embeddings, one of images with python -m eval.features, a trained one with eval.accuracy."
        )
    for strategy in strategies:
        strategy.check(dims)
        devices = 1 if isinstance(strategy, Single) else args.devices
        strategy.layout(dims, args.tokens, devices, shares_of(args.split, strategy, dims, args.tokens, devices))


def title(document: dict[str, Any]) -> str:
    """What the table is of."""
    return (
        f"{document['model']}, {document['devices']} devices, {document['windows']} x {document['tokens']} tokens of "
        f"{document['prompt_source']}"
    )
