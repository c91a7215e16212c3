"""Lost codes: what it costs when some of the other devices' codes do not arrive, and what helps.

    python -m eval.loss --json loss.json --plot loss.png
    python -m eval.loss --windows 2 --rates 0,0.1 --draws 1 --strategies sequence:int4     a first look
    python -m eval.loss --json loss.json --resume                   goes on with a run that was broken off

Each strategy is measured without losses and, with every rate, repair and draw, with them. Plain codecs leave a lost
token out of the softmax or put the mean of what arrived in its place; codecs that predict leave it out or predict it,
each with a loop that breaks there and with one that is mended later (thinwire.evaluation.lost). Codebooks that are
missing are learnt first. A row, draw and window takes about 5 s on two cores (SmolLM2-135M, 1024 tokens), and 10 to
20 s of compiling before the first; with two draws and three rates that are 13 passes of a plain strategy and 25 of one
that predicts for each window.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from thinwire.cli import console, main, study
from thinwire.dims import ModelDims
from thinwire.evaluation.lost import lossy, repairs, variants
from thinwire.evaluation.reading import Found, Reading, against, figures, pooled
from thinwire.models.families import FAMILIES
from thinwire.reports.lost import lost_markdown, lost_plot
from thinwire.reports.plots import save_figure
from thinwire.reports.sections import write_section
from thinwire.strategies import Strategy, parse_strategies

STRATEGIES = ("sequence:vq:groups=32:size=256", "sequence:quality", "sequence:balanced")
RATES = (0.0, 0.01, 0.05, 0.1)


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes JSON, a picture and a section."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.loss", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study.add_arguments(parser, "loss", windows=8)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="A,B,...", help="default: %(default)s")
    parser.add_argument(
        "--rates", type=parse_rates, default=RATES, metavar="p,q,...", help="parts that are lost (0,0.01,0.05,0.1)"
    )
    parser.add_argument("--draws", type=parse_draws, default=2, metavar="n", help="draws of losses (default: 2)")
    args = parser.parse_args(arguments)
    study.check_arguments(args)
    strategies = list(dict.fromkeys(parse_strategies(args.strategies)))
    cases = [variants(strategy, args.rates, range(args.draws)) for strategy in strategies]
    model, reading = study.open_subject(args)
    dims = FAMILIES[model.family].dims(model.config)
    every = [one for case in cases for one in case]
    for strategy in every:
        strategy.check(dims)
        strategy.layout(dims, reading.inputs_W.shape[1], args.devices, None)
    codecs_of = study.open_codecs(model, [*strategies, *every], args, reading)
    document = {**study.document_of("eval.loss", arguments, args, model, reading), "draws": args.draws}
    rows = lambda found: rows_of(dims, strategies, args.rates, args.draws, reading, found)
    batches = [study.Batch(model, case, codecs_of) for case in cases]
    document = study.measured(args, document, reading, batches, rows)
    what = study.what_of(document)
    text = lost_markdown(document, what)
    console.say(text)
    if args.plot is not None:
        save_figure(lost_plot(document, f"{model.name}, {what}"), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, text)
    return 0


def parse_rates(text: str) -> tuple[float, ...]:
    """``0,0.05`` as numbers, ascending; 0 is always among them, as losses are told beside none.

    Raises:
        argparse.ArgumentTypeError: they are no probabilities.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= rate <= 1 for rate in found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0 to 1, such as 0,0.05")
    return tuple(sorted({0.0, *found}))


def parse_draws(text: str) -> int:
    """A number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def rows_of(
    dims: ModelDims, strategies: Sequence[Strategy], rates: Sequence[float], draws: int, reading: Reading, found: Found
) -> list[dict[str, Any]]:
    """A row for each strategy, repair and rate of which anything is known, draws put together."""
    rows = []
    for strategy in strategies:
        whole = found.get(lossy(strategy).spec(), [])
        cases = [({"repair": "mask"}, 0.0), *((how, rate) for how in repairs(strategy) for rate in rates if rate > 0)]
        for options, rate in cases:
            of_draws = [
                found.get(lossy(strategy, rate=rate, draw=draw, **options).spec(), [])
                for draw in range(draws if rate else 1)
            ]
            done = min(len(whole), *map(len, of_draws))
            if not done:
                continue
            together = pooled(reading, [of[:done] for of in of_draws])
            of_all = figures(reading, together)
            rise, rise_error = rise_of(reading, together, whole[:done])
            rows.append(
                {
                    "strategy": strategy.spec(),
                    "rate": rate,
                    "loop": "broken",
                    **options,
                    "bits_per_token_per_layer": strategy.bits_per_token(dims),
                    **of_all,
                    "losses_by_draw": [figures(reading, of[:done])["loss"] for of in of_draws],
                    "rise": rise,
                    "rise_error": rise_error,
                }
            )
    return rows


def rise_of(reading: Reading, distances: Sequence[Any], whole: Sequence[Any]) -> tuple[float, float]:
    """What is lost beside the same strategy without losses, and its standard error: NaN where pairs do not tell."""
    if reading.measure == "cosine":  # to the single device only
        return figures(reading, distances)["loss"] - figures(reading, whole)["loss"], float("nan")
    beside = figures(reading, against(reading, distances, whole))
    return beside["loss"], beside["loss_error"]


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
