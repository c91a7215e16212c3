"""--trained: weights and codebooks that a training has saved, in place of the model's own."""

import argparse
from typing import Any

from thinwire.cli import inputs
from thinwire.cli.programs import keep_programs
from thinwire.errors import ThinwireError
from thinwire.training.artefact import Artefact, load, trained_model
from thinwire.weights.load import LoadedModel


def add_trained(parser: argparse.ArgumentParser) -> None:
    """--trained."""
    parser.add_argument(
        "--trained",
        metavar="DIR",
        help="run the weights and codebooks in a folder that a training saved: an adapter, or whole weights",
    )


def read(folder: str | None) -> Artefact | None:
    """What the option names, checked, before a model is fetched for it; None without the option.

    Raises:
        ThinwireError: there is nothing, or it is damaged.
    """
    return None if folder is None else load(folder)


def open_model(name: str, artefact: Artefact | None) -> LoadedModel:
    """The model of --model, or what was trained: without --model its own base model, if it has one.

    Raises:
        ThinwireError: the model cannot be loaded, or it is not the one that was trained.
    """
    if artefact is None:
        return inputs.open_model(name)
    if artefact.card.from_scratch and name != inputs.DEFAULT_MODEL:
        raise ThinwireError(
            f"These weights of {artefact.card.model} were trained from scratch and need no other model; leave "
            f"--model {name} out."
        )
    keep_programs()
    return trained_model(artefact, lambda: _base_of(name, artefact))


def open_base(name: str, artefact: Artefact | None) -> LoadedModel | None:
    """The model as it was before an adapter changed it; None where nothing was trained, or from scratch.

    Raises:
        ThinwireError: it cannot be loaded.
    """
    return None if artefact is None or artefact.card.from_scratch else _base_of(name, artefact)


def _base_of(name: str, artefact: Artefact) -> LoadedModel:
    return inputs.open_model(artefact.card.model if name == inputs.DEFAULT_MODEL else name)


def strategies(artefact: Artefact | None, usual: str) -> str:
    """The strategies that are taken where none are named: the usual ones, or those that tell what training did."""
    if artefact is None:
        return usual
    return ",".join(dict.fromkeys(["single", "sequence:float32", artefact.card.strategy]))


def facts(artefact: Artefact | None) -> dict[str, Any]:
    """What stands beside results of trained weights; nothing beside others."""
    if artefact is None:
        return {}
    card = artefact.card
    told = ("model", "model_sha256", "kind", "strategy", "lora", "data", "seed", "command", "sha256")
    return {"trained": {name: getattr(card, name) for name in told}}
