"""How many images a trained vision Transformer classifies rightly, by strategy and number of devices.

    python -m eval.accuracy --trained trained/vit-fashion-mnist-g16 --devices 4
    python -m eval.accuracy --trained trained/vit-fashion-mnist-g16 --devices 2,3,4,8 --images 2000 --json accuracy.json

Each strategy with a codec that learns nothing, or the one that the weights were trained with. *drop* is the loss of
accuracy, in points, against the same weights on the single device.
"""

import argparse
import dataclasses
import shlex
import sys
from typing import Any

import numpy as np

from thinwire.cli import console, inputs, main
from thinwire.errors import ThinwireError
from thinwire.evaluation.accuracy import accuracy, logits_of_images
from thinwire.models.families import FAMILIES
from thinwire.reports.accuracy import accuracy_markdown, accuracy_table
from thinwire.reports.json_file import write_json
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, parse_strategies, parse_strategy
from thinwire.training import artefact
from thinwire.training.image_run import images_to_test


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trained", required=True, metavar="FOLDER", help="a trained vision Transformer")
    parser.add_argument("--data", metavar="NAME|FOLDER", help="labelled images (those that it was trained on)")
    parser.add_argument("--devices", default="4", metavar="N,...", help="default: 4")
    parser.add_argument("--strategies", metavar="A,B,...", help="default: int8, int4, drop and the one trained for")
    parser.add_argument("--images", type=int, default=0, metavar="B", help="the first test images; 0 for all")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    inputs.add_docs(parser, "accuracy")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    counts = _counts(args.devices)
    if args.images < 0:
        raise ThinwireError(f"--images {args.images} is no number of images; give 1 or more, or 0 for all.")
    trained = artefact.load(args.trained)
    model = artefact.trained_model(trained, lambda: inputs.open_model(trained.card.model))
    made_for = parse_strategy(trained.card.strategy)
    usual = ["sequence:int8", "sequence:int4", "sequence:drop"]
    specs = args.strategies or ",".join([*usual, *([] if isinstance(made_for, Single) else [made_for.spec()])])
    strategies = [s for s in dict.fromkeys(parse_strategies(specs)) if not isinstance(s, Single)]
    codecs = {strategy: artefact.codecs(trained, strategy) for strategy in strategies}
    dims = FAMILIES[model.family].dims(model.config)
    for strategy in strategies:
        strategy.check(dims)
        for count in counts:
            strategy.layout(dims, dims.context, count, None)
    images, rows_BTP = images_to_test(trained.card, args.data, args.images)
    rows: list[dict[str, Any]] = []
    work = [(Single(), 1), *((strategy, count) for count in counts for strategy in strategies)]
    with console.progress("classifying", len(work) * len(rows_BTP)) as bar:
        for at, (strategy, count) in enumerate(work):
            bar.describe(f"{strategy.spec()}, {count} devices")
            done = lambda images, at=at: bar.update(at * len(rows_BTP) + images)
            logits_BC = logits_of_images(model, strategy, count, codecs.get(strategy, {}), rows_BTP, progress=done)
            right = float(accuracy(logits_BC, images.labels_N))
            rows.append(
                {
                    "strategy": strategy.spec(),
                    "devices": count,
                    "bits_per_token_per_layer": strategy.bits_per_token(dims) if count > 1 else 0.0,
                    "accuracy": right,
                    "drop_points": 100 * (rows[0]["accuracy"] - right) if rows else 0.0,
                    "standard_error_points": 100 * float(np.sqrt(right * (1 - right) / len(images.labels_N))),
                }
            )
    document = {
        "model": model.name,
        "model_sha256": model.sha256,
        "trained": dataclasses.asdict(trained.card),
        "images": len(images.labels_N),
        **inputs.environment(shlex.join(["python", "-m", "eval.accuracy", *arguments])),
        "rows": rows,
    }
    console.show(accuracy_table(rows, f"{model.name}, {len(images.labels_N)} test images of {images.name}"))
    if args.json is not None:
        write_json(args.json, document)
    if args.docs is not None:
        write_section(args.docs, args.section, accuracy_markdown(document))
    return 0


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ThinwireError(f"--devices {text} is no list of numbers; write it as 2,4.") from None
    for count in counts:
        inputs.check_devices(count)
    return counts


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
