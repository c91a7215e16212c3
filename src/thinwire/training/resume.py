"""What a run says about itself in its checkpoints, and whether another may go on from them."""

import dataclasses
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from thinwire.errors import ThinwireError

# Settings that a resumed run may change, whatever part of the configuration they are in: how long it goes on (what is
# left of a schedule is stretched), when it is looked at, what it keeps and where,
# and what devices do it.
MAY_CHANGE = frozenset(
    {
        "steps",
        "log_every",
        "save_every",
        "evaluate_every",
        "keep",
        "keep_every",
        "tensorboard",
        "resume",
        "folder",
        "out",
        "spread",
    }
)
_SHOWN = 6  # differences in one sentence


def describe(config: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says about its run: ``config`` and ``data`` as JSON holds them, and the versions that made it.

    Args:
        config: a dataclass or a mapping: all settings of the run.
        data: what it learns from, with hashes.
    """
    versions = {"thinwire": metadata.version("thinwire"), "jax": jax.__version__}
    settings = config if isinstance(config, Mapping) else dataclasses.asdict(config)
    return {"config": _as_json(settings), "data": _as_json(data), "versions": versions}


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compares what two runs say about themselves (``describe``); versions may differ.

    Raises:
        ThinwireError: configuration or data are not the same; it names what differs.
    """
    check_same_config(*({part: run[part] for part in ("config", "data")} for run in (old, new)))


def check_same_config(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compares two configurations, nested as they are; fields of ``MAY_CHANGE`` are left out.

    Raises:
        ThinwireError: something differs; it names each field with its old and its new value.
    """
    before, now = _fields(_as_json(old)), _fields(_as_json(new))
    names = [*before, *(name for name in now if name not in before)]
    told = [
        f"{name}: {_shown(before, name)} -> {_shown(now, name)}"
        for name in names
        if name.rpartition(".")[2] not in MAY_CHANGE and (name not in before or before[name] != now.get(name, ...))
    ]
    if told:
        more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise ThinwireError(
            f"this run was begun with other settings ({', '.join(told[:_SHOWN])}{more}): resume it with those, or "
            "begin anew in another folder."
        )


def _as_json(value: Any) -> Any:
    """As it would be read from a checkpoint: tuples are lists, paths are texts."""
    return json.loads(json.dumps(value, default=str))


def _fields(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested configuration by their dotted names."""
    found = {}
    for name, value in config.items():
        inner = isinstance(value, Mapping) and value
        found |= _fields(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def _shown(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "not set"
    value = fields[name]
    return value if isinstance(value, str) else json.dumps(value)
