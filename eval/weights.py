"""Quantised weights together with coded context: do the two losses add up?

    python -m eval.weights --mesh --json weights.json
    python -m eval.weights --windows 2 --strategies sequence:int4 --weights 4      a first look
    python -m eval.weights --json weights.json --resume             goes on with a run that was broken off

Weights are rounded to nearest, after training: 8 bits by output channel, 4 bits by groups of 32 inputs with a float16
scale, then with 8 bits for embedding and head. It is fake quantisation (thinwire.weights.quantised): the arithmetic is
float32, so it tells of quality and not of time. Codebooks are those of the weights as they were loaded; those that are
missing are learnt first. A row and window takes about 5 s on two cores (SmolLM2-135M, 1024 tokens) and some 10 s of
compiling before the first, one of an image of 224 pixels about 0.1 s.

The SmolLM2-135M of the catalogue is a file of 4-bit weights (asymmetric, groups of 32) to begin with: what is measured
there is a second rounding.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.cli import console, main, study
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.evaluation.reading import Found, Reading, against, figures
from thinwire.models.families import FAMILIES
from thinwire.reports.flow_cut import LOSSES, loss_of
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, Strategy, parse_strategies
from thinwire.weights.quantised import FORMATS, quantised, size_bits

STRATEGIES = ("sequence:quality", "sequence:balanced", "sequence:vq:groups=32:size=256")
SINGLE = Single()
FLOAT = "float32"


def run(arguments: list[str]) -> int:
    """Measures every strategy with every kind of weights, shows a table, writes JSON and a section."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study.add_arguments(parser, "weights", windows=16)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="A,B,...", help="default: %(default)s")
    parser.add_argument("--weights", default="8,4", metavar="A,B,...", help="bits, of 8 and 4 (default: both)")
    args = parser.parse_args(arguments)
    study.check_arguments(args)
    if args.plot is not None:
        raise ThinwireError("--plot is not drawn by this study; leave it out.")
    bits = parse_weights(args.weights)
    strategies: list[Strategy] = [SINGLE, *(s for s in dict.fromkeys(parse_strategies(args.strategies)) if s != SINGLE)]
    model, reading = study.open_subject(args)
    if reading.measure == "cosine":
        raise ThinwireError(
            f"{model.name} names no classes of images with known labels, so rounding loses no accuracy."
        )
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies[1:]:
        strategy.check(dims)
        strategy.layout(dims, reading.inputs_W.shape[1], args.devices, None)
    codecs_of = study.open_codecs(model, strategies, args, reading)
    models = {FLOAT: model} | {FORMATS[n].name: quantised(model, FORMATS[n]) for n in bits}
    sizes = {FLOAT: size_bits(model, None)} | {FORMATS[n].name: size_bits(model, FORMATS[n]) for n in bits}
    document = study.document_of("eval.weights", arguments, args, model, reading)
    rows = lambda found: rows_of(dims, strategies, sizes, reading, found)
    batches = [study.Batch(one, strategies, codecs_of, weights) for weights, one in models.items()]
    document = study.measured(args, document, reading, batches, rows)
    what = study.what_of(document)
    text = weights_markdown(document, what)
    console.say(text)
    if args.docs is not None:
        write_section(args.docs, args.section, text)
    return 0


def parse_weights(text: str) -> list[int]:
    """``8,4`` as numbers.

    Raises:
        ThinwireError: one of them is no format of weights.
    """
    known = {str(bits): bits for bits in FORMATS}
    for part in text.split(","):
        if part not in known:
            raise ThinwireError(f"--weights {part!r} is none of {', '.join(known)}; write a list such as 8,4.")
    return [known[part] for part in dict.fromkeys(text.split(","))]


def rows_of(
    dims: ModelDims, strategies: Sequence[Strategy], sizes: Mapping[str, int], reading: Reading, found: Found
) -> list[dict[str, Any]]:
    """A row for each kind of weights and strategy.

    Losses are beside the single device with the weights as they were loaded, ``coding_loss`` beside that with the same
    weights as the row's.
    """
    reference = found.get(study.named(FLOAT, SINGLE), [])
    rows = []
    for weights, size in sizes.items():
        alone = found.get(study.named(weights, SINGLE), [])
        for strategy in strategies:
            distances = found.get(study.named(weights, strategy), [])
            done = min(map(len, (distances, alone, reference)))
            if not done:
                continue
            to_float = figures(reading, against(reading, distances[:done], reference[:done]))
            to_alone = figures(reading, distances[:done])
            rows.append(
                {
                    "weights": weights,
                    "weight_bytes": size // 8,
                    "strategy": strategy.spec(),
                    "bits_per_token_per_layer": 0.0 if isinstance(strategy, Single) else strategy.bits_per_token(dims),
                    **to_float,
                    "coding_loss": to_alone["loss"],
                    "coding_loss_error": to_alone["loss_error"],
                }
            )
    return rows


def weights_markdown(document: Mapping[str, Any], what: str) -> str:
    """The rows under the command."""
    heading = LOSSES[document["measure"]][0]
    headings = ("weights", "MB", "strategy", "bits", heading, "of that by coding")
    by_coding = lambda row: loss_of({"loss": row["coding_loss"], "loss_error": row["coding_loss_error"]})
    body = [
        [
            f"`{row['weights']}`",
            f"{row['weight_bytes'] / 1e6:.1f}",
            f"`{row['strategy']}`",
            f"{row['bits_per_token_per_layer']:.4g}",
            loss_of(row),
            "–" if row["strategy"] == SINGLE.spec() else by_coding(row),
        ]
        for row in document["rows"]
    ]
    meaning = (
        f"*{heading}*: beside the single device with the weights as they were loaded; *of that by coding*: beside the "
        "single device with the same rounded weights. *MB*: what integers, scales and the rest in float16 would take."
    )
    return f"{markdown_head(document, what)}{markdown_table(headings, body, ['strategy'])}\n{meaning}\n"


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
