"""Perplexity against bits on held-out text: what each codec loses, and how sure that is.

    python -m eval.quality --model smollm2-135m --devices 4 --json quality.json
    python -m eval.quality --windows 8 --strategies sequence:quality,sequence:int4 --split 3/2/1/1
    python -m eval.quality --json quality.json --resume     goes on with a run that was broken off
    python -m eval.quality --trained my-adapter --strategies sequence:vq:groups=1     of weights that were trained

Every row reads the same windows as the single device does. Codebooks that are missing are learnt first, from the
calibration part of the text; no article is in both parts. A row and window takes about 5 s on two cores with --mesh,
which runs each device apart; without it virtual devices run as one program, which is slower. With --trained the single
device has the trained weights too, so that what they have learnt of the text is no gain of a codec; what it had before
is told beside.
"""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Mapping
from typing import Any

import jax

from thinwire.cli import console, inputs, main, resume, trained
from thinwire.errors import ThinwireError
from thinwire.evaluation.metrics import Distance
from thinwire.evaluation.quality import Found, measure_quality, quality_rows
from thinwire.models.families import FAMILIES
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import quality_plot, save_figure
from thinwire.reports.quality import quality_markdown, quality_table, training_note
from thinwire.reports.sections import write_section
from thinwire.strategies import parse_strategies
from thinwire.strategies.balance import shares_of
from thinwire.wire.spmd import make_mesh

DROPPED = "sequence:drop"
STRATEGIES = (
    DROPPED,
    "sequence:bfloat16",
    "sequence:int8",
    "sequence:int4",
    "sequence:int2",
    "sequence:quality",
    "sequence:balanced",
    "sequence:extreme",
    "sequence:vq:groups=32:size=256",
    "sequence:vq:groups=32:size=256:site=norm",
    "sequence:vq:groups=32:size=256:site=x",
    "sequence:vq:groups=1",
    "sequence:paper",
    "sequence:lowrank:dims=30",
    "sequence:topk:keep=10",
)
JOB = "eval.quality"
# What must be the same for two runs to be one.
SETTINGS = ("model_sha256", "devices", "tokens", "split", "text", "seed")


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(arguments)
    specs = [DROPPED, *(s for s in args.strategies.split(",") if s != DROPPED)]
    strategies = list(dict.fromkeys(parse_strategies(",".join(specs))))
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_amount(args.tokens, args.windows)
    inputs.check_devices(args.devices, args.split, args.tokens)
    if args.mesh:
        jax.config.update("jax_num_cpu_devices", args.devices)
    artefact = trained.read(args.trained)
    model = trained.open_model(args.model, artefact)
    dims = FAMILIES[model.family].dims(model.config)
    if not dims.language:
        raise ThinwireError(
            f"{model.name} predicts no tokens, so it has no perplexity; use eval.embeddings or eval.accuracy."
        )
    for strategy in strategies:
        strategy.check(dims)
        strategy.layout(
            dims, args.tokens, args.devices, shares_of(args.split, strategy, dims, args.tokens, args.devices)
        )
    windows_WT = inputs.open_windows(model, args.text, "test", args.tokens, args.windows, args.seed)
    job = inputs.study_job(args.seed)
    codecs_of = inputs.codecs_for(model, strategies, args.devices, None, args.seed, trained=artefact, job=job)
    base = trained.open_base(args.model, artefact)
    document: dict[str, Any] = {
        "model": model.name,
        "model_sha256": model.sha256,
        "devices": args.devices,
        "tokens": args.tokens,
        "split": inputs.split_written(args.split, args.tokens, args.devices),
        "text": inputs.source(model, args.text),
        "seed": args.seed,
        **trained.facts(artefact),
        "emulated": "a mesh on one machine" if args.mesh else "virtual devices",
        **inputs.environment(resume.command_of(JOB, arguments)),
    }
    done = read_done(args.json, document, len(windows_WT)) if args.resume else {}

    def save(found: Found) -> None:
        if args.json is not None:
            write_json(args.json, {**document, **results(found)})

    def results(found: Found) -> dict[str, Any]:
        rows = quality_rows(dims, strategies, found, DROPPED)
        return {"rows": rows, "distances": {k: [dataclasses.astuple(d) for d in v] for k, v in found.items()}}

    where = make_mesh(args.devices) if args.mesh else args.devices
    with console.progress("reading", len(windows_WT)) as bar:
        found = measure_quality(
            model, strategies, where, windows_WT, codecs_of, args.split, done, save, bar.update, base
        )
    save(found)
    title = f"{model.name}, {args.devices} devices, {len(windows_WT)} x {args.tokens} tokens of {document['text']}"
    rows = results(found)["rows"]
    console.show(quality_table(rows, title + training_note(rows)))
    if args.plot is not None:
        save_figure(quality_plot(rows, subtitle=title), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, quality_markdown({**document, "rows": rows}))
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    inputs.add_model(parser)
    trained.add_trained(parser)
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--split", type=inputs.parse_split, metavar="A/B/...", help="each device's share (even)")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="of a window (default: 1024)")
    parser.add_argument("--windows", type=int, default=32, metavar="W", help="default: 32")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="A,B,...", help="default: all codecs")
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="default: %(default)s")
    inputs.add_seed(parser)
    parser.add_argument("--mesh", action="store_true", help="one CPU device of JAX each instead of virtual devices")
    parser.add_argument("--json", metavar="FILE", help="write the rows, after every window")
    parser.add_argument("--plot", metavar="FILE", help="draw the table as PNG or SVG")
    inputs.add_docs(parser, "quality")
    resume.add_resume(parser)


def read_done(path: str | None, document: Mapping[str, Any], windows: int) -> Found:
    """What an earlier run with the same settings has found of the first windows.

    Raises:
        ThinwireError: there is no file, it is none of this job's, or its settings were others.
    """

    def read(old: Mapping[str, Any]) -> Found:
        return {spec: list(itertools.starmap(Distance, rows[:windows])) for spec, rows in old["distances"].items()}

    return resume.read_earlier(path, JOB, read, document, SETTINGS)


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
