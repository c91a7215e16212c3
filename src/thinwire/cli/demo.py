"""`thinwire demo`: the whole of it on a real model, in a few minutes."""

import argparse
import time

import numpy as np

from thinwire.cli import compare, console, inputs
from thinwire.engine import Engine
from thinwire.reports.html import write_html
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import latency_plot, quality_plot, save_figure
from thinwire.reports.table import comparison_table
from thinwire.strategies import Single, Strategy, parse_strategies, parse_strategy
from thinwire.weights.load import LoadedModel

NAME = "demo"
HELP = "fetch a small model, calibrate it, compare the strategies, continue a prompt"
EXAMPLES = """\
thinwire demo
thinwire demo --tokens 512 --devices 3 --out my-demo
"""

CODED = "sequence:vq:groups=32:size=256"
STRATEGIES = (
    "single,sequence:float32,sequence:int8,sequence:int4,"
    f"{CODED},sequence:vq:groups=1:size=256,ring:int8,tensor:float32,tensor:int8"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="virtual devices (default: 4)")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="tokens of the prompt (default: 1024)")
    parser.add_argument("--max-tokens", type=int, default=40, metavar="N", help="tokens to continue with (default: 40)")
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="where the report goes (default: out/demo)")
    inputs.add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, continue, and write a report."""
    start = time.perf_counter()
    args.text, args.windows, args.split, args.codebooks = inputs.DEFAULT_TEXT, 1, None, None
    strategies = parse_strategies(STRATEGIES)
    model = inputs.open_model(args.model)
    document = compare.compare_document(model, strategies, args)
    console.show(comparison_table(document["rows"], compare.title(document)))
    continuations = []
    if model.tokenizer is not None:
        with console.progress("continuing the prompt", 2) as bar:
            for strategy in (Single(), parse_strategy(CODED)):
                continuations.append({"strategy": strategy.spec(), "text": _continue(model, strategy, args)})
                bar.advance()
        for one in continuations:
            console.say(f"\n{one['strategy']} goes on:\n  …{' '.join(one['text'].split())}")
    files = [
        write_json(f"{args.out}/rows.json", {**document, "continuations": continuations}),
        save_figure(quality_plot(document["rows"]), f"{args.out}/quality.png"),
        save_figure(latency_plot(document["rows"]), f"{args.out}/latency.png"),
        write_html(f"{args.out}/report.html", document, continuations),
    ]
    console.say(f"\nreport and plots: {', '.join(map(str, files))}")
    console.say(f"all of it took {time.perf_counter() - start:.0f} s")
    return 0


def _continue(model: LoadedModel, strategy: Strategy, args: argparse.Namespace) -> str:
    ids_T = inputs.open_windows(model, args.text, "test", args.tokens, 1, args.seed)[0]
    devices = 1 if isinstance(strategy, Single) else args.devices
    codecs_of = inputs.codecs_for(model, [strategy], devices, None, args.seed)
    engine = Engine(model, strategy, devices, codecs_of(strategy), dtype=args.dtype)
    assert model.tokenizer is not None
    return model.tokenizer.decode(list(engine.generate(np.asarray(ids_T), args.max_tokens)))
