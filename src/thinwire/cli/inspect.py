"""`thinwire inspect`: what a model or a codebook set is."""

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from thinwire.cli import console, inputs
from thinwire.codebooks.store import MANIFEST
from thinwire.codebooks.store import load as load_codebooks
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.reports.inspection import codebook_facts, codebook_figure, model_facts
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import save_figure
from thinwire.strategies import parse_codec, parse_strategy
from thinwire.training.calibrate import codebook_path

NAME = "inspect"
HELP = "show what a model or a codebook set is: sizes, error and dead codewords by layer"
EXAMPLES = """\
thinwire inspect smollm2-135m
thinwire inspect --model smollm2-135m --strategy sequence:quality --plot quality.png
thinwire inspect path/of/codebooks --json figures.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", nargs="?", metavar="NAME|DIR", help="a model's name or path, or a folder of codebooks")
    parser.add_argument("--model", metavar="NAME", help="with --strategy: whose codebooks in the cache")
    parser.add_argument("--strategy", metavar="S", help="the strategy whose codebooks are shown")
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="of tensor parallelism (default: 4)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the layers of a codebook set as PNG")


def run(args: argparse.Namespace) -> int:
    """Shows what it is."""
    inputs.check_outputs(args.json, args.plot)
    if (args.what is None) == (args.strategy is None):
        raise ThinwireError("name a model or a folder of codebooks, or a --strategy whose codebooks are in the cache.")
    place = _place(args)
    if place is None:
        model = inputs.open_model(args.what)
        facts = {"name": model.name, **model_facts(FAMILIES[model.family].dims(model.config), model.params)}
        if args.plot is not None:
            raise ThinwireError("--plot draws codebooks; leave it out for a model.")
        _show_model(facts)
    else:
        manifest = load_codebooks(place).manifest
        codec = parse_codec(manifest.codec)
        facts = codebook_facts(manifest, {site: codec.bits_per_token(dim) for site, dim in manifest.sites.items()})
        _show_codebooks(facts)
        if args.plot is not None:
            save_figure(codebook_figure(facts), args.plot)
    if args.json is not None:
        write_json(args.json, facts)
    return 0


def _place(args: argparse.Namespace) -> Path | None:
    """The folder of codebooks that is meant, if it is one."""
    if args.strategy is not None:
        model = inputs.open_model(args.model or inputs.DEFAULT_MODEL)
        return codebook_path(model, parse_strategy(args.strategy), args.devices)
    path = Path(args.what).expanduser()
    return path if (path / MANIFEST).is_file() else None


def _show_model(facts: dict[str, Any]) -> None:
    table = Table(title=f"{facts['name']}: {facts['parameters'] / 1e6:.1f} M parameters")
    for column, right in (("array", False), ("shape", True), ("values", True), ("rms", True), ("largest", True)):
        table.add_column(column, justify="right" if right else "left")
    for name, array in facts["arrays"].items():
        shape = " x ".join(map(str, array["shape"]))
        table.add_row(name, shape, f"{array['values']:,}", f"{array['rms']:.3g}", f"{array['max']:.3g}")
    console.show(table)
    console.say(
        f"{facts['layers']} layers of width {facts['width']}, {facts['heads']} heads of {facts['head']} on "
        f"{facts['kv_heads']} key heads; {facts['bytes_bfloat16'] / 1e6:.0f} MB in bfloat16; a token's keys and values "
        f"take {facts['cache_bytes_a_token_float32'] / 1e3:.1f} kB in float32"
    )


def _show_codebooks(facts: dict[str, Any]) -> None:
    site, layers = next(iter(facts["by_layer"].items()))
    table = Table(title=f"{facts['codec']} of {facts['model']}, at {site}")
    names = [name for name in ("relative_error", "dead", "perplexity", "usage_max") if name in layers[-1]]
    table.add_column("layer", justify="right")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for i, layer in enumerate(layers):
        table.add_row(str(i), *(f"{layer[name]:.4g}" if name in layer else "" for name in names))
    console.show(table)
    bits = ", ".join(f"{value:g} bits a token at {where}" for where, value in facts["bits_per_token"].items())
    data = facts["data"]
    console.say(
        f"{bits}; {facts['bytes'] / 1e6:.1f} MB; learnt from {data.get('rows')} rows of {data.get('source')}, "
        f"seed {facts['seed']}, {facts['created']}"
    )
