"""Cutting the flow of information: the same compressor in four places of a model, loss against bits.

    python -m eval.flow_cut --mesh --json flow-cut.json --plot flow-cut.png
    python -m eval.flow_cut --windows 2 --codecs int8,int4 --every 1,8      a first look
    python -m eval.flow_cut --model vit-s14-focus --windows 20 --json flow-cut-vit.json
    python -m eval.flow_cut --json flow-cut.json --resume                   goes on with a run that was broken off

The places: the residual stream as it enters layers (a cut; with --every also few cuts), the sums that attention and
feed-forward layer add to it, keys and values of all tokens, keys and values of other devices' tokens. Codebooks of each
place are learnt from the calibration part of the text, if they are missing: for 256 codewords about a minute each on
two cores, three for the sums. A row and window takes about 5 s there (SmolLM2-135M, 1024 tokens) and some 10 s of
compiling before the first, a row and view of an image of 224 pixels about 0.1 s.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from thinwire.cli import console, main, study
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.evaluation.injection import PLACES, Residual, bits, injected, place_of
from thinwire.evaluation.reading import Found, Reading, figures
from thinwire.models.families import FAMILIES
from thinwire.reports.flow_cut import flow_cut_markdown, flow_cut_plot
from thinwire.reports.plots import save_figure
from thinwire.reports.sections import write_section
from thinwire.strategies import Strategy

CODECS = (
    "vq:groups=8:size=256",
    "vq:groups=32:size=256",
    "vq:groups=96:size=256",
    "vq:groups=192:size=256",
    "int4",
    "int8",
)


def run(arguments: list[str]) -> int:
    """Measures every codec in every place, shows a table, writes JSON, a picture and a section."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.flow_cut", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study.add_arguments(parser, "flow-cut", windows=16)
    parser.add_argument("--codecs", default=",".join(CODECS), metavar="A,B,...", help="default: %(default)s")
    parser.add_argument("--places", default=",".join(PLACES), metavar="A,B,...", help="default: %(default)s")
    parser.add_argument(
        "--every",
        type=parse_every,
        metavar="A,B,...",
        help="layers between cuts of the residual stream (1 and a quarter)",
    )
    parser.add_argument(
        "--remote",
        metavar="A,B,...",
        help="more codecs for remote keys and values only (quality and balanced, for images without tokens)",
    )
    args = parser.parse_args(arguments)
    study.check_arguments(args)
    made = strategies_of(args, None)  # what is no codec or place is said before a model is loaded
    model, reading = study.open_subject(args)
    dims = FAMILIES[model.family].dims(model.config)
    made = strategies_of(args, dims)
    for strategy in made:
        strategy.check(dims)
        strategy.layout(dims, reading.inputs_W.shape[1], args.devices, None)
    codecs_of = study.open_codecs(model, made, args, reading)
    document = study.document_of("eval.flow_cut", arguments, args, model, reading)
    batches = [study.Batch(model, made, codecs_of)]
    document = study.measured(args, document, reading, batches, lambda found: rows_of(dims, made, reading, found))
    what = study.what_of(document)
    text = flow_cut_markdown(document, what)
    console.say(text)
    if args.plot is not None:
        save_figure(flow_cut_plot(document, f"{model.name}, {what}"), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, text)
    return 0


def parse_every(text: str) -> tuple[int, ...]:
    """``1,8`` as numbers.

    Raises:
        argparse.ArgumentTypeError: they are none.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers of at least 1, such as 1,8")
    return found


def strategies_of(args: argparse.Namespace, dims: ModelDims | None) -> list[Strategy]:
    """Every codec in every place, place by place; the residual stream once for each distance of cuts."""
    codecs, places = ([part for part in text.split(",") if part.strip()] for text in (args.codecs, args.places))
    if not codecs or not places:
        raise ThinwireError("--codecs and --places name at least one each; leave them out for all.")
    # About a quarter of the depth: as if four devices had a share of the layers each.
    every = args.every or ((1,) if dims is None or dims.layers < 4 else (1, -(-dims.layers // 4)))
    predictive = ("quality", "balanced") if dims is None or dims.inputs_known else ("quality:rank=0", "balanced:rank=0")
    more = predictive if args.remote is None else [part for part in args.remote.split(",") if part.strip()]
    made = [
        injected(place, codec, n)
        for place in dict.fromkeys(places)
        for n in (dict.fromkeys(every) if place == "residual" else (1,))
        for codec in (*codecs, *(more if place == "remote_kv" else ()))
    ]
    return list(dict.fromkeys(made))


def rows_of(dims: ModelDims, strategies: Sequence[Strategy], reading: Reading, found: Found) -> list[dict[str, Any]]:
    """A row for each strategy of which anything is known."""
    rows = []
    for strategy in strategies:
        if found.get(strategy.spec()):
            each, tensors = bits(strategy, dims)
            rows.append(
                {
                    "strategy": strategy.spec(),
                    "codec": strategy.codec.spec(),
                    "place": place_of(strategy),
                    "predicts": strategy.codec.predicts,
                    "every": strategy.every if isinstance(strategy, Residual) else 1,
                    "tensors": tensors,
                    "bits_per_tensor": each,
                    "bits_whole": each * tensors,
                    **figures(reading, found[strategy.spec()]),
                }
            )
    return rows


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
