"""Continues prompts greedily by the single device, and by strategies in every way of decoding, and compares the tokens.

    python -m eval.continuations --json continuations.json

Prompts are windows of the held-out part of a text, all of one length. Codebooks that are missing are learnt first
(python -m train.codebooks configs/smollm2_codebooks.py learns them all in one pass).
"""

import argparse
import shlex
import sys
from typing import Any

from rich.table import Table

from thinwire.cli import console, inputs, main
from thinwire.decoding import parse_decoding
from thinwire.errors import ThinwireError
from thinwire.evaluation.continuations import compare_continuations, steps
from thinwire.generation import check_length
from thinwire.models.families import FAMILIES
from thinwire.reports.json_file import write_json
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, parse_strategies
from thinwire.strategies.balance import shares_of

STRATEGIES = "sequence:quality,sequence:balanced,sequence:extreme"


def run(arguments: list[str]) -> int:
    """Compares, shows a table and writes the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.continuations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    inputs.add_devices(parser)
    parser.add_argument("--strategies", default=STRATEGIES, metavar="A,B,...", help=f"default: {STRATEGIES}")
    parser.add_argument("--decode", default="one,all", metavar="A,B,...", help="ways of decoding (default: one,all)")
    parser.add_argument("--prompts", type=int, default=20, metavar="P", help="how many prompts (default: 20)")
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="T", help="tokens of each (default: 512)")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="tokens to add (default: 200)")
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="default: held-out Wikipedia")
    inputs.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the rows, and the single device's tokens, as JSON")
    inputs.add_docs(parser, "continuations")
    args = parser.parse_args(arguments)
    args.command_line = shlex.join(["python", "-m", "eval.continuations", *arguments])
    document = measure(args)
    console.show(table(document["rows"]))
    if args.json is not None:
        write_json(args.json, document)
    if args.docs is not None:
        write_section(args.docs, args.section, markdown(document))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The rows and everything that a reader needs to make them again."""
    strategies = parse_strategies(args.strategies)
    decodes = [name for name in args.decode.split(",") if name]
    if not decodes:
        raise ThinwireError("The list of --decode is empty; write some, separated by commas.")
    for name in decodes:
        parse_decoding(name)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_amount(args.prompt_tokens, args.prompts)
    inputs.check_devices(args.devices, args.split, args.prompt_tokens)
    model = inputs.open_model(args.model)
    check_length(model, args.prompt_tokens, args.tokens)
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
        devices = 1 if isinstance(strategy, Single) else args.devices
        strategy.layout(
            dims, args.prompt_tokens, devices, shares_of(args.split, strategy, dims, args.prompt_tokens, devices)
        )
    prompts_PT = inputs.open_windows(model, args.text, "test", args.prompt_tokens, args.prompts, args.seed)
    codecs_of = inputs.codecs_for(model, strategies, args.devices, args.codebooks, args.seed)
    rows = len(strategies) * len(decodes)
    with console.progress("continuing", steps(args.prompts, args.tokens, rows)) as bar:

        def tell(what: str) -> None:
            bar.describe(what)
            bar.advance()

        found, single_PN = compare_continuations(
            model, strategies, decodes, args.devices, prompts_PT, args.tokens, codecs_of, args.split, args.dtype, tell
        )
    return {
        "model": model.name,
        "model_sha256": model.sha256,
        "dtype": args.dtype,
        "seed": args.seed,
        "prompt_source": inputs.source(model, f"{args.text}, held-out part"),
        **inputs.environment(args.command_line),
        "rows": found,
        "single_tokens": single_PN,
    }


HEADINGS = ("strategy", "decode", "identical", "prefix", "same token", "told: top-1", "bytes a token", "cache MB")


def cells(row: dict[str, Any]) -> list[str]:
    """A row as it is shown."""
    return [
        row["strategy"],
        row["decode"],
        f"{row['identical']:.0%}",
        f"{row['common_prefix']:.1f}",
        f"{row['same_token']:.1%}",
        f"{row['top1_told']:.1%}",
        f"{row['bytes_per_new_token_per_device']:,}",
        f"{row['cache_bytes_per_device'] / 1e6:.2f}",
    ]


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows for a terminal."""
    shown = Table(title=f"{rows[0]['prompts']} prompts, {rows[0]['new_tokens']} tokens each")
    for name in HEADINGS:
        shown.add_column(name, no_wrap=name in HEADINGS[:2], justify="left" if name in HEADINGS[:2] else "right")
    for row in rows:
        shown.add_row(*cells(row))
    return shown


def markdown(document: dict[str, Any]) -> str:
    """The rows for a document."""
    what = "{prompts} prompts of {prompt_tokens} tokens, {new_tokens} greedy tokens each, {devices} devices".format(
        **document["rows"][0]
    )
    what += " (virtual), {dtype}, prompts from {prompt_source}, seed {seed}".format(**document)
    body = [[f"`{row['strategy']}`", f"`{row['decode']}`", *cells(row)[2:]] for row in document["rows"]]
    return markdown_head(document, what) + markdown_table(HEADINGS, body, HEADINGS[:2])


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
