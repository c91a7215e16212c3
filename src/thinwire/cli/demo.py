"""`thinwire demo`: the whole of it on a real model, in a few minutes."""

import argparse
import time

from thinwire.cli import compare, console, inputs
from thinwire.engine import Engine
from thinwire.generation import check_length, generate
from thinwire.reports.html import write_html
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import latency_plot, quality_plot, save_figure
from thinwire.reports.table import comparison_table
from thinwire.strategies import Single, Strategy, parse_strategies, parse_strategy

NAME = "demo"
HELP = "fetch a small model, calibrate it, compare the strategies, continue a prompt"
EXAMPLES = """\
thinwire demo
thinwire demo --tokens 512 --devices 3 --out my-demo
"""

CODED = "sequence:quality"
STRATEGIES = (
    f"single,sequence:float32,sequence:int8,sequence:int4,{CODED},sequence:drop,ring:int8,tensor:float32,tensor:int8"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="virtual devices (default: 4)")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="tokens of the prompt (default: 1024)")
    parser.add_argument("--max-tokens", type=int, default=32, metavar="N", help="tokens to continue with (default: 32)")
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="where the report goes (default: out/demo)")
    inputs.add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, continue, and write a report."""
    start = time.perf_counter()
    args.text, args.windows, args.split, args.codebooks = inputs.DEFAULT_TEXT, 1, None, None
    strategies = parse_strategies(STRATEGIES)
    files = {name: f"{args.out}/{name}" for name in ("rows.json", "quality.png", "latency.png", "report.html")}
    inputs.check_outputs(*files.values())
    compare.check_numbers(strategies, args)
    model = inputs.open_model(args.model)
    check_length(model, args.tokens, args.max_tokens)
    comparing = compare.Comparing(model, strategies, args)
    document = comparing.document()
    console.show(comparison_table(document["rows"], compare.title(document), console.width(), document["windows"]))
    continuations = []
    if model.tokenizer is not None:
        with console.progress("continuing the prompt", 2) as bar:
            for strategy in (Single(), parse_strategy(CODED)):
                continuations.append({"strategy": strategy.spec(), "text": _continue(comparing, strategy)})
                bar.advance()
        for one in continuations:
            console.say(f"\n{one['strategy']} goes on:\n  …{' '.join(one['text'].split())}")
    written = [
        write_json(files["rows.json"], {**document, "continuations": continuations}),
        save_figure(quality_plot(document["rows"]), files["quality.png"]),
        save_figure(latency_plot(document["rows"]), files["latency.png"]),
        write_html(files["report.html"], document, continuations),
    ]
    console.say(f"\nreport and plots: {', '.join(map(str, written))}")
    console.say(f"all of it took {time.perf_counter() - start:.0f} s")
    return 0


def _continue(comparing: compare.Comparing, strategy: Strategy) -> str:
    model, args = comparing.model, comparing.args
    devices = 1 if isinstance(strategy, Single) else args.devices
    engine = Engine(model, strategy, devices, comparing.codecs_of(strategy), dtype=args.dtype)
    assert model.tokenizer is not None
    return model.tokenizer.decode(list(generate(engine, comparing.windows_WT[0], args.max_tokens)))
