"""Results as strict JSON: no NaN, no numpy types, written atomically."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinwire.reports.files import write_text


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NaN and infinity become null, numpy and jax numbers and arrays plain ones."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    tolist = getattr(value, "tolist", None)  # numpy and jax, scalars and arrays
    if callable(tolist):
        return plain(tolist())
    return str(value)  # paths, versions


def to_json(document: Any) -> str:
    """The text of the file: strict, indented, in the order of the keys as given."""
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, document: Any) -> Path:
    """Write `document` to `path` atomically; a ThinwireError says why where it cannot be."""
    return write_text(path, to_json(document))
