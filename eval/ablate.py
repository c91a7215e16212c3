"""What each part of the training brings: one thing changed at a time, over several seeds, on images.

    python -m eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/ablate --seeds 0,1,2 --json ablate.json
    python -m eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/ablate --json ablate.json --resume \
        --variants noise=0,one-class-token
    python -m eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/kinds --json kinds.json \
        --variants sequence:vq:groups=12:size=256/noise=0,sequence:fsq:dims=60:levels=3/noise=0

A variant is a name, a strategy to train for instead, or several of these with "/" between them. Every variant is a
training of the configuration's length, of seconds to minutes each, from the same starting model.
"""

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinwire.cli import console, inputs, main, resume
from thinwire.errors import ThinwireError
from thinwire.reports.ablation import ablation_markdown, ablation_plot, ablation_table
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import save_figure
from thinwire.reports.sections import write_section
from thinwire.training.ablation import VARIANTS, distinct, summary, variant
from thinwire.training.artefact import read_card
from thinwire.training.image_run import ImageRun, train_images
from thinwire.training.jobs import read_config

JOB = "eval.ablate"


def run(arguments: list[str]) -> int:
    """Trains what is missing, shows a table, writes JSON after every training."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="of the training that is varied")
    parser.add_argument("--folder", required=True, metavar="DIR", help="where trainings run, each in an empty folder")
    parser.add_argument("--variants", metavar="A,B,...", help=f"default: what is new of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", default="0,1,2", metavar="S,...", help="default: 0,1,2")
    parser.add_argument("--steps", type=int, metavar="N", help="of every training (those of the configuration)")
    parser.add_argument("--tests", type=int, metavar="B", help="test images (those of the configuration)")
    parser.add_argument("--json", required=True, metavar="FILE", help="write the rows, after every training")
    resume.add_resume(parser, "keep the rows that FILE holds already")
    parser.add_argument("--plot", metavar="FILE", help="draw them as PNG or SVG")
    inputs.add_docs(parser, "ablation")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    config = read_config(ImageRun, [args.config], "python -m eval.ablate")
    names, seeds = args.variants.split(",") if args.variants else distinct(config), _seeds(args.seeds)
    planned = [(name, seed, _planned(config, name, seed, args)) for name in names for seed in seeds]
    document = {
        "model": str(config.start),
        "model_sha256": None if config.start is None else read_card(config.start).sha256,
        "config": args.config,
        "settings": {f"{name}, seed {seed}": _settings(one) for name, seed, one in planned},
        **inputs.environment(resume.command_of(JOB, arguments)),
    }
    done = _done(args.json, document, [(name, seed) for name, seed, _ in planned]) if args.resume else {}
    wanted = [(name, seed) for name, seed, _ in planned]
    in_order = lambda: [done[key] for key in wanted if key in done]
    others = [row for key, row in done.items() if key not in wanted]  # kept in the file, not shown
    missing = [(name, seed, one) for name, seed, one in planned if (name, seed) not in done]
    with console.progress("training", len(missing)) as bar:
        for at, (name, seed, one) in enumerate(missing):
            bar.describe(f"{name}, seed {seed}")
            shutil.rmtree(one.session.folder, ignore_errors=True)
            made = train_images(one, document["command"])
            done[name, seed] = {"variant": name, "seed": seed, **summary(one, made)}
            write_json(args.json, {**document, "rows": [*in_order(), *others]})
            bar.update(at + 1)
    rows = in_order()
    console.show(ablation_table(rows))
    if args.plot is not None:
        save_figure(ablation_plot(rows), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, ablation_markdown({**document, "rows": rows}))
    return 0


def _planned(config: ImageRun, name: str, seed: int, args: argparse.Namespace) -> ImageRun:
    folder = Path(args.folder) / f"{name.replace('/', '-')}-{seed}"
    changed = variant(config, name)
    optimiser = changed.optimiser
    if args.steps is not None:
        warmup = min(optimiser.warmup, args.steps)
        optimiser = dataclasses.replace(optimiser, steps=args.steps, warmup=warmup)
    return dataclasses.replace(
        changed,
        seed=seed,
        optimiser=optimiser,
        session=dataclasses.replace(changed.session, folder=folder, keep=1, resume=False),
        pace=dataclasses.replace(changed.pace, save_every=0, evaluate_every=0),
        out=folder / "trained",
        tests=changed.tests if args.tests is None else args.tests,
    )


def _seeds(text: str) -> list[int]:
    try:
        return [inputs.parse_seed(part) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise ThinwireError(f"--seeds {text}: {error}") from None


def _settings(config: ImageRun) -> str:
    """All settings of a training but for where it is kept."""
    place = Path()
    session = dataclasses.replace(config.session, folder=place)
    return repr(dataclasses.replace(config, session=session, out=place, start=None))


def _done(path: str, document: dict[str, Any], planned: list[tuple[str, int]]) -> dict[tuple[str, int], dict[str, Any]]:
    """What an earlier run has found of the trainings that are planned.

    Raises:
        ThinwireError: the file is none of this job's, or the model or a training's settings were others.
    """

    def read(old: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
        found = {(row["variant"], row["seed"]): dict(row) for row in old["rows"]}
        if old["model_sha256"] != document["model_sha256"]:
            raise ThinwireError(f"{path} is of other weights than {document['model']} holds now: start afresh.")
        for name, seed in planned:
            which = f"{name}, seed {seed}"
            if (name, seed) in found and old["settings"][which] != document["settings"][which]:
                raise ThinwireError(f"{path} has {which} of other settings than these: start afresh.")
        document["settings"] = {**old["settings"], **document["settings"]}
        return found

    return resume.read_earlier(path, JOB, read)


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
