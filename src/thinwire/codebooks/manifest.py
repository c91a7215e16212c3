"""What a saved codebook set says of itself, and whether it fits a model."""

import dataclasses
import datetime
import importlib.metadata
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from thinwire.codecs.base import SHARED
from thinwire.errors import ThinwireError

FORMAT = 1


def version() -> str:
    """The version of this package."""
    try:
        return importlib.metadata.version("thinwire")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_record(kind: type, version: int, text: str) -> dict[str, Any]:
    """The fields of a dataclass as JSON holds them, each of its type (None too where the type says so).

    Raises:
        ValueError: in words, what is wrong with it.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if found.get("format") != version:
        raise ValueError(f"it has format {found.get('format')!r} and this version reads {version}")
    for name, hint in typing.get_type_hints(kind).items():
        if name not in found:
            raise ValueError(f"it lacks {name!r}")
        of = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kinds = tuple(typing.get_origin(one) or one for one in of)
        if not isinstance(found[name], kinds) or isinstance(found[name], bool):
            raise ValueError(f"its {name!r} is {found[name]!r}")
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Where codebooks come from and what they are for; written as readable JSON beside the arrays.

    Attributes:
        model: the model's name.
        model_sha256: hash of its weights.
        family: the model's family, such as ``llama``.
        layers: layers that have codebooks.
        codec: the codec's canonical string.
        sites: values a row has at each site, ``{site: dim}``.
        data: what they were learnt from: source, sha256, tokens, ...
        seed: the seed of the learning.
        health: health figures, as the calibration found them.
        created: when, UTC.
        thinwire: the version that wrote them.
        format: the version of this layout.
        shapes: the shape of each array as it is stored, ``{site: {array: shape}}``; filled in when saved.
        arrays_sha256: hash of all arrays; filled in when saved.
    """

    model: str
    model_sha256: str
    family: str
    layers: int
    codec: str
    sites: dict[str, int]
    data: dict[str, Any]
    seed: int
    health: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = dataclasses.field(default_factory=now)
    thinwire: str = dataclasses.field(default_factory=version)
    format: int = FORMAT
    shapes: dict[str, dict[str, list[int]]] = dataclasses.field(default_factory=dict)
    arrays_sha256: str = ""

    def to_json(self) -> str:
        """Returns the manifest as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: in words, what is wrong with it.
        """
        found = read_record(Manifest, FORMAT, text)
        manifest = Manifest(**found)
        sizes = [manifest.layers, *manifest.sites.values()]
        for arrays in manifest.shapes.values():
            if not isinstance(arrays, dict) or not all(isinstance(shape, list) for shape in arrays.values()):
                raise ValueError("its 'shapes' are not shapes")
            sizes += [size for shape in arrays.values() for size in shape]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError("a size in it is not a positive whole number")
        if manifest.shapes.keys() - {SHARED} != manifest.sites.keys():
            raise ValueError("its sites and its shapes name different sites")
        return manifest


def check_fits(
    manifest: Manifest,
    *,
    model_sha256: str,
    model_name: str,
    layers: int,
    sites_dims: Mapping[str, int],
    codec_spec: str,
) -> None:
    """Refuses codebooks that were made for something else; a set may hold more sites than are asked for.

    Args:
        manifest: what the codebooks say of themselves.
        model_sha256: hash of the weights in use.
        model_name: their name, for the message.
        layers: the model's layers.
        sites_dims: the sites that will be coded, and the width of each.
        codec_spec: the codec's canonical string.

    Raises:
        ThinwireError: in one sentence, everything that differs.
    """
    differs = []
    if manifest.model_sha256 != model_sha256:
        if manifest.model == model_name:
            differs.append(f"other weights of {model_name}")
        else:
            differs.append(f"model {manifest.model}, not {model_name}")
    if manifest.layers != layers:
        differs.append(f"{manifest.layers} layers, not {layers}")
    for site, dim in sites_dims.items():
        if site not in manifest.sites:
            differs.append(f"sites {', '.join(manifest.sites)}, not {site}")
        elif manifest.sites[site] != dim:
            differs.append(f"width {manifest.sites[site]} at site {site}, not {dim}")
    if manifest.codec != codec_spec:
        differs.append(f"codec {manifest.codec}, not {codec_spec}")
    if differs:
        raise ThinwireError(f"These codebooks are for {'; for '.join(differs)}: calibrate for this model and codec.")
