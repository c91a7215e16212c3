"""The model card of a trained artefact: its ``README.md``, made from its card."""

from collections.abc import Iterator, Mapping
from typing import Any

from thinwire.models.families import FAMILIES
from thinwire.strategies import Single, parse_strategy
from thinwire.training.adapters import TOP
from thinwire.training.card import BEFORE, Card, config_of

_CODED = (
    "Several devices read one sequence: each keeps its own tokens exact and sees the others' through a codec, here "
    "`{codec}`. These weights were trained with it in place."
)
_ALONE = "These weights were trained on a single device, with no codec in place."
_WEIGHTS = "All weights were trained, from a random start: there is no base model, and nothing else to fetch."
_IN_PARTS = (
    "All weights were trained, in several trainings from a random start: there is no base model, and nothing else to "
    "fetch."
)
_TUNED = "All weights of {model} were trained on; the file replaces them."
_LORA = (
    "The weights of {model} are as they were; a low-rank adapter (LoRA, rank {rank}, alpha {alpha:g}, on {targets}) is "
    "added to them when it is loaded, so that it runs as fast as the base model."
)
_WHOLE = " All arrays outside of the layers were trained whole."


def model_card(card: Card, eight_bits: bool = False) -> str:
    """Markdown for a reader who has only the folder: what it is, how it is run, what it was made of.

    Args:
        eight_bits: whether its codebooks are stored so.
    """
    codebooks = any(name.startswith("codebooks/") for name in card.files)
    base = card.model if card.from_scratch else f"{card.model} (sha256 `{card.model_sha256}`)"
    facts = {
        "base model": "none" if card.from_scratch else base,
        "configuration": f"{card.family}: {', '.join(f'{name} {value}' for name, value in card.config.items())}",
        "trained for": f"`{card.strategy}`",
        "weights stored as": card.dtype,
        **(
            {"codebooks stored as": "8 bits, and a step for each row" if eight_bits else "float32"} if codebooks else {}
        ),
        "seed": card.seed,
        "made": f"{card.created}, thinwire {card.thinwire}, jax {card.jax}",
        "identity": f"`{card.sha256}`",
    }
    parts = [
        f"# {card.model}, trained for `{card.strategy}`",
        f"{_ALONE if _alone(card) else _CODED.format(codec=card.codec)} {_what(card)}",
        "## Running it",
        *([_code("sh", _command(card))] if FAMILIES[card.family].dims(config_of(card)).language else []),
        _code("python", _python(card)),
        "Other strategies run with these weights too; they were trained for the one above.",
        "## What it is",
        _table(facts),
    ]
    before = card.data.get(BEFORE)
    data = {**card.data, **({BEFORE: before["identity"]} if before else {})}
    if card.figures:
        parts += ["## What the training found", _table(dict(_read(card.figures)))]
    parts += ["## What it was trained on", _table(dict(_flat(data))) if data else "Not said."]
    parts += ["## Training it again", _code("sh", "\n".join(_commands(card)))]
    parts += [
        "## Files",
        _table({f"`{name}`": f"`{sha256}`" for name, sha256 in card.files.items()}),
        "`card.json` holds all of this for programs. Every file is checked against its hash when it is loaded. What "
        "the licences of the base model and of the data ask for holds for these weights too.",
    ]
    return "\n\n".join(parts) + "\n"


def _commands(card: Card) -> list[str]:
    return [*card.data.get(BEFORE, {}).get("commands", []), card.command]


def _what(card: Card) -> str:
    if card.lora is not None:
        targets = [target for target in card.lora["targets"] if target != TOP]
        told = {"model": card.model, "rank": card.lora["rank"], "alpha": card.lora["alpha"]}
        return _LORA.format(**told, targets=" and ".join(targets)) + (_WHOLE if TOP in card.lora["targets"] else "")
    return (_IN_PARTS if BEFORE in card.data else _WEIGHTS) if card.from_scratch else _TUNED.format(model=card.model)


def _alone(card: Card) -> bool:
    return isinstance(parse_strategy(card.strategy), Single)


def _command(card: Card) -> str:
    model = "" if card.from_scratch else f" --model {card.model}"
    strategies = ",".join(dict.fromkeys(["single", card.strategy]))
    return f"thinwire compare{model} --trained FOLDER --devices 4 --strategies {strategies}"


def _python(card: Card) -> str:
    if card.from_scratch:
        load = "trained = artefact.load('FOLDER')\nmodel = artefact.from_scratch(trained)"
    else:
        load = f"trained = artefact.load('FOLDER')\nmodel = artefact.apply(trained, load_model({card.model!r}))"
    return (
        "from thinwire.engine import Engine\nfrom thinwire.strategies import parse_strategy\n"
        "from thinwire.training import artefact\n"
        + ("" if card.from_scratch else "from thinwire.weights.load import load_model\n")
        + f"\n{load}\nstrategy = parse_strategy({card.strategy!r})\n"
        f"engine = Engine(model, strategy, {1 if _alone(card) else 4}, artefact.codecs(trained, strategy))"
    )


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value


def _read(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in _flat(figures):
        yield name.replace("_", " "), f"{value:.5g}" if isinstance(value, float) else value


def _table(rows: Mapping[str, Any]) -> str:
    cell = lambda value: " ".join(str(value).split()).replace("|", "\\|")
    return "\n".join(["| | |", "| --- | --- |", *(f"| {cell(name)} | {cell(value)} |" for name, value in rows.items())])


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
