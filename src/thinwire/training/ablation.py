"""A training with one thing changed: the grid of an ablation, or of strategies that get the same training."""

import dataclasses
from collections.abc import Callable
from typing import Any

from thinwire.errors import ThinwireError
from thinwire.strategies import Sequence
from thinwire.training.artefact import Artefact
from thinwire.training.image_run import ImageRun
from thinwire.training.recipe import Recipe

Change = Callable[[Recipe], Recipe]


def _with(**changes: Any) -> Change:
    return lambda recipe: dataclasses.replace(recipe, **changes)


def _strategy(**changes: Any) -> Change:
    def change(recipe: Recipe) -> Recipe:
        strategy = recipe.parsed()
        of_codec = {k: v for k, v in changes.items() if k in {f.name for f in dataclasses.fields(strategy.codec)}}
        codec = dataclasses.replace(strategy.codec, **of_codec)
        others = {k: v for k, v in changes.items() if k not in of_codec}
        if unknown := others.keys() - {f.name for f in dataclasses.fields(strategy)}:
            raise ThinwireError(f"{recipe.strategy} has no {', '.join(sorted(unknown))} to change; leave that out.")
        return dataclasses.replace(recipe, strategy=dataclasses.replace(strategy, codec=codec, **others).spec())

    return change


# By name: what is changed of the recipe. The first is the recipe as it is.
VARIANTS: dict[str, Change] = {
    "as-configured": lambda recipe: recipe,
    "noise=0": _with(noise=0.0),
    "noise=0.3": _with(noise=0.3),
    "noise=1": _with(noise=1.0),
    "noise-full-covariance": _with(covariance="full"),
    "beta=0": _with(commitment=0.0),
    "beta=0.25": _with(commitment=0.25),
    "one-class-token": _strategy(class_tokens="one"),
    "groups=1": _strategy(groups=1),
    "groups=1+noise=0": lambda recipe: _with(noise=0.0)(_strategy(groups=1)(recipe)),
    "groups=1+one-class-token": _strategy(groups=1, class_tokens="one"),
    "groups=32": _strategy(groups=32),
    "size=256": _strategy(size=256),
    "size=64": _strategy(size=64),
    "site=kv": _strategy(site="kv"),
    "site=norm": _strategy(site="norm"),
    "codebooks-by-gradient": _with(codebooks="gradient"),
    "codebooks-fixed": _with(codebooks="fixed"),
}


def variant(config: ImageRun, name: str) -> ImageRun:
    """The training with something changed: by a name of the list, to another strategy, or several of these.

    Args:
        name: changes with "/" between them, as ``sequence:fsq:dims=60:levels=3/noise=0``.

    Raises:
        ThinwireError: there is no such variant, or a strategy in question codes no context.
    """
    if not isinstance(config.recipe.parsed(), Sequence):
        raise ThinwireError(f"{config.recipe.strategy} codes no context, so there is nothing to vary.")
    recipe = config.recipe
    for part in name.split("/"):
        recipe = _change(part)(recipe)
    if not isinstance(recipe.parsed(), Sequence):
        raise ThinwireError(f"{recipe.strategy} codes no context; name a strategy that begins with 'sequence:'.")
    return dataclasses.replace(config, recipe=recipe)


def distinct(config: ImageRun) -> list[str]:
    """The names of the list without those that this training is already, or that come to what another does."""
    found: dict[Recipe, str] = {}
    for name in VARIANTS:
        found.setdefault(variant(config, name).recipe, name)
    return list(found.values())


def _change(name: str) -> Change:
    if name in VARIANTS:
        return VARIANTS[name]
    if ":" in name:
        return _with(strategy=name)
    raise ThinwireError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}, and strategies.")


def summary(config: ImageRun, made: Artefact) -> dict[str, Any]:
    """What a training of the grid found."""
    devices = max(config.recipe.devices)
    return {
        "strategy": made.card.strategy,
        "devices": devices,
        "steps": config.optimiser.steps,
        "accuracy": made.card.figures[f"test accuracy, {devices} devices"],
        "accuracy_single": made.card.figures["test accuracy, 1 device"],
        "images": made.card.figures["test images"],
    }
