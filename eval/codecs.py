"""Which compressor: every kind of codec at the same bits and in the same place, remote keys and values.

    python -m eval.codecs --mesh --json codecs.json --plot codecs.png
    python -m eval.codecs --bits 120,240 --windows 4                a first look at two rates
    python -m eval.codecs --list                                    the codecs at these bits, and what cannot have them
    python -m eval.codecs --json codecs.json --resume               goes on with a run that was broken off

Nothing is fine-tuned. Of every kind the codec nearest to --bits is taken, if it is within 8 %; integers and signs need
more bits than that. Codebooks that are missing are learnt first, one to four minutes each on two cores (SmolLM2-135M).
A row and window of 1024 tokens takes about 5 s there, a row and view of an image of 224 pixels about 0.1 s.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from thinwire.cli import console, main, study
from thinwire.codecs import Drop, Predictive
from thinwire.dims import ModelDims
from thinwire.evaluation.matched import chosen, matched
from thinwire.evaluation.reading import Found, Reading, figures
from thinwire.models.families import FAMILIES
from thinwire.reports.compressors import compressors_markdown, compressors_plot
from thinwire.reports.markdown import markdown_table
from thinwire.reports.plots import save_figure
from thinwire.reports.sections import write_section
from thinwire.strategies import Sequence as SequenceStrategy
from thinwire.strategies import Strategy

BATCH = 8  # strategies that are measured together: each holds its codebooks


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes JSON, a picture and a section."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.codecs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study.add_arguments(parser, "codecs", windows=16)
    parser.add_argument(
        "--bits", type=parse_bits, default=[240.0], metavar="A,B,...", help="of a token and layer (default: 240)"
    )
    parser.add_argument("--list", action="store_true", help="show the codecs, run nothing")
    args = parser.parse_args(arguments)
    study.check_arguments(args)
    model, reading = study.open_subject(args)
    dims = FAMILIES[model.family].dims(model.config)
    if args.list:
        console.say(listed(dims, args.bits))
        return 0
    strategies = strategies_of(dims, args.bits)
    for strategy in strategies:
        strategy.check(dims)
        strategy.layout(dims, reading.inputs_W.shape[1], args.devices, None)
    codecs_of = study.open_codecs(model, strategies, args, reading)
    document = {**study.document_of("eval.codecs", arguments, args, model, reading), "bits": args.bits}
    batches = [study.Batch(model, strategies[a : a + BATCH], codecs_of) for a in range(0, len(strategies), BATCH)]
    rows = lambda found: rows_of(dims, strategies, reading, found)
    document = study.measured(args, document, reading, batches, rows)
    what = study.what_of(document)
    text = compressors_markdown(document, what)
    console.say(text)
    if args.plot is not None:
        save_figure(compressors_plot(document, f"{model.name}, {what}"), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, text)
    return 0


def parse_bits(text: str) -> list[float]:
    """``120,240`` as numbers.

    Raises:
        argparse.ArgumentTypeError: they are no positive numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(0 < bits < float("inf") for bits in found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of positive numbers such as 120,240")
    return found


def strategies_of(dims: ModelDims, rates: Sequence[float]) -> list[Strategy]:
    """Nothing sent, not even a prediction's residual, and every kind of codec that fits."""
    known = dims.inputs_known
    silent = [Drop(), Predictive(Drop()) if known else Predictive(Drop(), rank=0)]
    codecs = [*silent, *chosen(dims.site_dim("kv"), list(rates), knows_tokens=known)]
    return [SequenceStrategy(codec, site="kv") for codec in codecs]


def listed(dims: ModelDims, rates: Sequence[float]) -> str:
    """The nearest codec of every kind, and whether it is near enough."""
    body = [
        [one.kind, f"{bits:g}", f"`{one.codec.spec()}`", f"{one.bits:.4g}", "yes" if one.fits else "no"]
        for bits in rates
        for one in matched(dims.site_dim("kv"), bits, knows_tokens=dims.inputs_known)
    ]
    return markdown_table(["kind", "asked for", "nearest", "bits", "fits"], body, ["nearest", "fits"])


def rows_of(dims: ModelDims, strategies: Sequence[Strategy], reading: Reading, found: Found) -> list[dict[str, Any]]:
    """A row for each strategy of which anything is known, the one that loses least first."""
    rows = [
        {
            "strategy": strategy.spec(),
            "codec": strategy.codec.spec(),
            "predicts": strategy.codec.predicts,
            "tuned": None,
            "bits_per_token_per_layer": strategy.bits_per_token(dims),
            **figures(reading, found[strategy.spec()]),
        }
        for strategy in strategies
        if found.get(strategy.spec())
    ]
    return sorted(rows, key=lambda row: row["loss"])


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
