"""How costs grow with codewords, groups, tokens and devices: measured on one core, with laws fitted to what was found.

    python -m eval.cost_growth --json growth.json --plot growth.png
    python -m eval.cost_growth --parts devices --devices 1,2,4,8 --json growth.json --resume

Nothing is sent. One device's program is run alone, as it would run among N but for what it receives. Passes are
measured with one layer and extrapolated by the number of layers, so 16,384 tokens take seconds and not minutes. All
programs of a part are timed in turns.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thinwire.benchmark.growth import codec_rows, pass_rows, strategy_on
from thinwire.benchmark.pieces import TIMED
from thinwire.cli import console, inputs, main, resume
from thinwire.cli.cores import on_cores
from thinwire.codecs import GroupedVQ
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.number_lists import parse_counts
from thinwire.reports.growth import findings, fits_of, growth_markdown, growth_plot
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import save_figure
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, Strategy, parse_strategies
from thinwire.weights.load import LoadedModel, for_tokens

PARTS = ("codec", "tokens", "devices")
JOB = "eval.cost_growth"
SETTINGS = ("model", "dtype", "cores", "timed")
SWEPT_SIZE = 1024  # codewords, while groups grow


def run(arguments: list[str]) -> int:
    """Measures, says what was found, writes the files."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.cost_growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    parts = chosen_parts(args.parts)
    strategies = [one for one in parse_strategies(args.strategies) if not isinstance(one, Single)]
    lists = {name: parse_counts(f"--{name}", getattr(args, name)) for name in LISTS}
    with on_cores(args.cores) as cores:
        model = inputs.open_model(args.model)
        document: dict[str, Any] = {
            "model": model.name,
            "dtype": args.dtype,
            "cores": cores,
            "timed": TIMED,
            "what": f"{cores} core{'s' if cores > 1 else ''}, {args.dtype}, random weights and codebooks",
            **inputs.environment(shlex.join(["python", "-m", "eval.cost_growth", *from_the_start(arguments)])),
        }
        if model.tokenizer is not None:
            document["what"] = document["what"].replace("random weights and", "random")
        document |= read_done(args.json, document) if args.resume else dict.fromkeys(PARTS, ())
        check(model, strategies, lists, args.token_devices, args.device_tokens)
        for part in parts:
            document[part] = MEASURES[part](model, strategies, lists, args)
            if args.json is not None:
                write_json(args.json, document)
    document["laws"] = fits_of(document)
    for one in findings(document, document["laws"]):
        console.say(one)
    if args.json is not None:
        write_json(args.json, {**document, "findings": findings(document, document["laws"])})
    if args.plot is not None:
        save_figure(growth_plot(document), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, growth_markdown(document))
    return 0


LISTS = ("sizes", "groups", "tokens", "devices")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    parser.add_argument("--parts", default=",".join(PARTS), metavar="A,B,...", help="what to measure (%(default)s)")
    parser.add_argument("--sizes", default="256,512,1024,2048,4096", metavar="K,...", help="codewords (%(default)s)")
    parser.add_argument("--groups", default="1,2,4,8,16,32,64", metavar="G,...", help="groups (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=256, metavar="R", help="rows that are coded at once (default: 256)")
    parser.add_argument("--tokens", default="256,512,1024,2048,4096,8192,16384", metavar="T,...", help="(%(default)s)")
    parser.add_argument("--token-devices", type=int, default=4, metavar="N", help="one of N by tokens (default: 4)")
    parser.add_argument("--devices", default="1,2,4,8,16,32,64", metavar="N,...", help="default: %(default)s")
    parser.add_argument("--device-tokens", type=int, default=4096, metavar="T", help="by devices (default: 4096)")
    parser.add_argument(
        "--strategies", default="sequence:vq:groups=1,sequence:vq:groups=32", metavar="A,B,...",
        help="by devices; the first of them by tokens (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--cores", type=int, default=1, metavar="C", help="cores to run on (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write the rows, after every part")
    resume.add_resume(parser, "keep the other parts that FILE holds already")
    parser.add_argument("--plot", metavar="FILE", help="draw all of it as PNG or SVG")
    inputs.add_docs(parser, "cost-growth")
    parser.set_defaults(model="shape:vit-base")


def of_codec(model: LoadedModel, strategies: list[Strategy], lists: Mapping[str, Sequence[int]], args) -> list[dict]:
    """Encoding and decoding by codewords, at the fewest and at 32 groups (or the most), and by groups."""
    del strategies
    dim, groups = _dims(model).site_dim("kv"), lists["groups"]
    swept = dict.fromkeys((min(groups), 32 if 32 in groups else max(groups)))
    pairs = [(one, size) for one in swept for size in lists["sizes"]] + [(one, SWEPT_SIZE) for one in groups]
    pairs = list(dict.fromkeys(pairs))
    with console.progress("coding", len(pairs)) as bar:
        return codec_rows(pairs, dim, args.rows, _step(bar))


def of_tokens(model: LoadedModel, strategies: list[Strategy], lists: Mapping[str, Sequence[int]], args) -> list[dict]:
    """A pass of the single device, and of one of several, by tokens."""
    several = (strategy_on(strategies[0], args.token_devices), args.token_devices)
    places = [(one, tokens, devices) for one, devices in ((Single(), 1), several) for tokens in lists["tokens"]]
    with console.progress("tokens", len(places)) as bar:
        return pass_rows(model, places, args.dtype, _step(bar))


def of_devices(model: LoadedModel, strategies: list[Strategy], lists: Mapping[str, Sequence[int]], args) -> list[dict]:
    """A pass of one of N devices, and what the single device's time says of it by FLOPs alone."""
    tokens, dims = args.device_tokens, _dims(model)
    places: list[tuple[Strategy, int, int]] = [(Single(), tokens, 1)]
    places += [(strategy, tokens, count) for strategy in strategies for count in lists["devices"] if count > 1]
    with console.progress("devices", len(places)) as bar:
        rows = pass_rows(model, places, args.dtype, _step(bar))
    a_flop = rows[0]["layer_s"] / rows[0]["layer_flops"]
    by_flops = lambda row: dims.layers * row["layer_flops"] * a_flop + rows[0]["ends_s"] / row["devices"]
    return [{**row, "by_flops_s": by_flops(row)} for row in rows]


def _step(bar: console.Bar) -> Callable[[str], None]:
    def step(what: str) -> None:
        bar.describe(what)
        bar.advance()

    return step


MEASURES = {"codec": of_codec, "tokens": of_tokens, "devices": of_devices}


def check(
    model: LoadedModel,
    strategies: list[Strategy],
    lists: Mapping[str, Sequence[int]],
    token_devices: int,
    device_tokens: int,
) -> None:
    """Says what cannot be measured before anything is."""
    if not strategies:
        raise ThinwireError("--strategies names none that splits tokens; give one such as sequence:vq:groups=1.")
    dims = _dims(model)
    for groups in lists["groups"]:
        GroupedVQ(groups).check(dims.site_dim("kv"))
    for size in lists["sizes"]:
        GroupedVQ(1, size)
    for tokens in (*lists["tokens"], device_tokens):
        inputs.check_amount(tokens, 1)
        context = _dims(for_tokens(model, tokens)).context
        if tokens > context:
            raise ThinwireError(f"{tokens} tokens are more than the {context} that {model.name} reads; ask for fewer.")
    for strategy in strategies:
        strategy.check(dims)
        for tokens in lists["tokens"]:
            strategy.layout(dims, tokens, token_devices, None)
        for devices in lists["devices"]:
            strategy.layout(dims, device_tokens, devices, None)


def from_the_start(arguments: list[str]) -> list[str]:
    """The arguments that would make in one run what a resumed run has put together."""
    if "--resume" not in arguments:
        return arguments
    left = [one for one in arguments if one != "--resume" and not one.startswith("--parts=")]
    return left[: left.index("--parts")] + left[left.index("--parts") + 2 :] if "--parts" in left else left


def chosen_parts(text: str) -> list[str]:
    """The parts that are to be measured.

    Raises:
        ThinwireError: there is none of that name.
    """
    parts = list(dict.fromkeys(part for part in text.split(",") if part))
    for part in parts:
        if part not in PARTS:
            raise ThinwireError(f"--parts {part} is unknown; there are {', '.join(PARTS)}.")
    return parts


def read_done(path: str | None, document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an earlier run with the same settings.

    Raises:
        ThinwireError: there is no file, it is none of this job's, or its settings were others.
    """
    return resume.read_earlier(path, JOB, lambda old: {part: list(old[part]) for part in PARTS}, document, SETTINGS)


def _dims(model: LoadedModel):
    return FAMILIES[model.family].dims(model.config)


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
