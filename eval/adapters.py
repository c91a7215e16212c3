"""What adapters for several codecs came to, each by the strategy that it was trained for, in one table.

    python -m eval.adapters --trained trained/smollm2-balanced,trained/smollm2-paper --mesh --json adapters.json
    python -m eval.adapters --trained trained/smollm2-balanced --windows 8 --json adapters.json

All of one base model and on the same windows. Each is held against its own single device, as codes are what is
compared, and against the base model's, so that what a training has cost or brought the single device is seen too.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from thinwire.cli import console, inputs, main, resume, trained
from thinwire.errors import ThinwireError
from thinwire.evaluation.quality import BASE, Found, measure_quality, trained_row
from thinwire.models.families import FAMILIES
from thinwire.reports.adapters import adapters_markdown, adapters_table
from thinwire.reports.json_file import write_json
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, parse_strategy
from thinwire.training import artefact
from thinwire.training.artefact import Artefact
from thinwire.wire.spmd import make_mesh

JOB = "eval.adapters"
# What must be the same for two runs to be one.
SETTINGS = ("model_sha256", "devices", "tokens", "windows", "text", "seed")


def run(arguments: list[str]) -> int:
    """Measures one after another, shows a table, writes JSON after each."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.adapters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trained", required=True, metavar="DIR,...", help="folders that trainings saved")
    parser.add_argument("--devices", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--tokens", type=int, default=1024, metavar="T", help="of a window (default: 1024)")
    parser.add_argument("--windows", type=int, default=32, metavar="W", help="default: 32")
    parser.add_argument("--text", default=inputs.DEFAULT_TEXT, metavar="NAME|FILE", help="default: %(default)s")
    inputs.add_seed(parser)
    parser.add_argument("--mesh", action="store_true", help="one CPU device of JAX each instead of virtual devices")
    parser.add_argument("--json", metavar="FILE", help="write the rows, after every adapter")
    resume.add_resume(parser, "keep the rows that FILE holds already")
    inputs.add_docs(parser, "adapters")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    inputs.check_amount(args.tokens, args.windows)
    inputs.check_devices(args.devices, None, args.tokens)
    if args.mesh:
        jax.config.update("jax_num_cpu_devices", args.devices)
    artefacts = _of_one_base(args.trained.split(","))
    base = trained.open_base(inputs.DEFAULT_MODEL, next(iter(artefacts.values())))
    assert base is not None  # none was trained from scratch
    dims = FAMILIES[base.family].dims(base.config)
    if not dims.language:
        raise ThinwireError(f"{base.name} predicts no tokens, so it has no perplexity; use eval.accuracy.")
    windows_WT = inputs.open_windows(base, args.text, "test", args.tokens, args.windows, args.seed)
    document: dict[str, Any] = {
        "model": base.name,
        "model_sha256": base.sha256,
        "devices": args.devices,
        "tokens": args.tokens,
        "text": inputs.source(base, args.text),
        "windows": args.windows,
        "seed": args.seed,
        "emulated": "a mesh on one machine" if args.mesh else "virtual devices",
        **inputs.environment(resume.command_of(JOB, arguments)),
    }
    done = resume.read_earlier(args.json, JOB, _rows_of, document, SETTINGS) if args.resume else {}
    rows: list[dict[str, Any]] = []
    save = lambda: args.json is None or write_json(args.json, {**document, "rows": rows})
    of_base: Found = {}
    where = make_mesh(args.devices) if args.mesh else args.devices
    for name, made in artefacts.items():
        strategy = parse_strategy(made.card.strategy)
        if (known := done.get((made.card.sha256, made.card.strategy))) is not None:
            rows.append({**known, "folder": name})
            save()
            continue
        model = artefact.trained_model(made, lambda: base)
        with console.progress(f"reading, {name}", len(windows_WT)) as bar:
            codecs_of = lambda strategy, made=made: artefact.codecs(made, strategy)
            found = measure_quality(
                model, [strategy], where, windows_WT, codecs_of, done=of_base, progress=bar.update, base=base
            )
        of_base = {BASE: found[BASE]}
        rows.append({"folder": name, **trained_row(dims, strategy, found), **trained.facts(made)})
        save()
    title = f"{base.name}, {args.devices} devices, {len(windows_WT)} x {args.tokens} tokens of {document['text']}"
    console.show(adapters_table(rows, title))
    if args.docs is not None:
        write_section(args.docs, args.section, adapters_markdown({**document, "rows": rows}))
    return 0


def _rows_of(document: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows by hash and strategy of what was trained."""
    return {(row["trained"]["sha256"], row["trained"]["strategy"]): row for row in document["rows"]}


def _of_one_base(folders: list[str]) -> dict[str, Artefact]:
    """The artefacts by the names of their folders.

    Raises:
        ThinwireError: one is damaged, has no base model or another one than the first, or codes nothing.
    """
    found: dict[str, Artefact] = {}
    for folder in folders:
        made = artefact.load(folder)
        first = next(iter(found.values()), made)
        if made.card.from_scratch:
            raise ThinwireError(
                f"{folder} was trained from scratch and has no base model; use eval.quality --trained for text, "
                "eval.accuracy for images."
            )
        if isinstance(parse_strategy(made.card.strategy), Single):
            raise ThinwireError(f"{folder} was trained for {made.card.strategy} and codes nothing; leave it out.")
        if made.card.model_sha256 != first.card.model_sha256:
            raise ThinwireError(
                f"{folder} was trained from {made.card.model} and {folders[0]} from {first.card.model}; "
                "compare adapters of one model."
            )
        if Path(folder).name in found:
            raise ThinwireError(f"two folders are named {Path(folder).name}; rename one.")
        found[Path(folder).name] = made
    return found


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
