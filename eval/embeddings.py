"""Sentence embeddings by codec: bits a token and layer, and how near they stay to the single device's.

    python -m eval.embeddings --model minilm-l6 --devices 4 --json embeddings.json

Each text is a window of --tokens tokens of the held-out part of --text. Codebooks that are missing are learnt first,
from windows of the same length of its calibration part.
"""

import argparse
import itertools
import shlex
import sys

from rich import box
from rich.table import Table

from thinwire.cli import console, inputs, main
from thinwire.evaluation.embeddings import compare_embeddings
from thinwire.reports.json_file import write_json
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.strategies import parse_strategies

STRATEGIES = (
    "single",
    "sequence:float32",
    "sequence:int8",
    "sequence:int4",
    "sequence:int2",
    "sequence:vq:groups=32",
    "sequence:vq:groups=16",
    "sequence:vq:groups=8",
    "sequence:vq:groups=1",
    "sequence:quality",
    "sequence:balanced",
    "sequence:extreme",
)
COLUMNS = {
    "bits_per_token_per_layer": ("bits a token and layer", "{:,.0f}"),
    "bytes_sent_per_device": ("bytes sent", "{:,}"),
    "mean_cosine": ("mean cosine", "{:.4f}"),
    "lowest_cosine": ("lowest", "{:.4f}"),
    "rank_correlation": ("rank correlation", "{:.4f}"),
}


def run(arguments: list[str]) -> int:
    """Embeds the texts by every strategy, shows a table and writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m eval.embeddings", description=__doc__, allow_abbrev=False)
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    inputs.add_devices(parser)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="A,B,...", help="what is compared")
    parser.add_argument("--tokens", type=int, default=128, metavar="T", help="tokens of a text (default: 128)")
    parser.add_argument("--texts", type=int, default=256, metavar="W", help="texts to embed (default: 256)")
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="where they are cut from")
    inputs.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    inputs.add_docs(parser, "embeddings")
    parser.set_defaults(model="minilm-l6")
    args = parser.parse_args(arguments)
    strategies = parse_strategies(args.strategies)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_devices(args.devices, args.split, args.tokens)
    model = inputs.open_model(args.model)
    windows_WT = inputs.open_windows(model, args.text, "test", args.tokens, args.texts, args.seed)
    codecs_of = inputs.codecs_for(model, strategies, args.devices, args.codebooks, args.seed, args.tokens)
    steps = len(windows_WT) * (1 + sum(strategy.name != "single" for strategy in strategies))
    with console.progress("embedding", steps) as bar:
        begun = itertools.count()

        def tell(what: str) -> None:
            bar.update(next(begun))
            bar.describe(what)

        rows = compare_embeddings(model, strategies, args.devices, windows_WT, codecs_of, args.split, args.dtype, tell)
        bar.update(steps)
    document = {
        "model": model.name,
        "model_sha256": model.sha256,
        "dtype": args.dtype,
        "devices": args.devices,
        "tokens": args.tokens,
        "texts": len(windows_WT),
        "source": inputs.source(model, f"{args.text}, held-out part"),
        "seed": args.seed,
        **inputs.environment(shlex.join(["python", "-m", "eval.embeddings", *arguments])),
        "rows": rows,
    }
    console.show(table(document))
    if args.json is not None:
        write_json(args.json, document)
    if args.docs is not None:
        write_section(args.docs, args.section, markdown(document))
    return 0


def cells(row: dict) -> list[str]:
    """A row as it is shown."""
    return [how.format(row[key]) for key, (_, how) in COLUMNS.items()]


def markdown(document: dict) -> str:
    """The rows for a document."""
    what = "{texts} texts of {tokens} tokens of {source}, seed {seed}, {devices} devices, {dtype}".format(**document)
    body = [[f"`{row['strategy']}`", *cells(row)] for row in document["rows"]]
    headings = ["strategy", *(heading for heading, _ in COLUMNS.values())]
    return markdown_head(document, what) + markdown_table(headings, body)


def table(document: dict) -> Table:
    """The rows, to look at."""
    found = Table(
        title="{model}, {devices} devices, {texts} texts of {tokens} tokens of {source}".format(**document),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    found.add_column("strategy", overflow="fold")
    for heading, _ in COLUMNS.values():
        found.add_column(heading, justify="right")
    for row in document["rows"]:
        found.add_row(row["strategy"], *cells(row))
    return found


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
