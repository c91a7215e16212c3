"""Which clusters there are: one folder each under /run/thinwire, with what they consist of and who owns them.

A folder is there before anything else of a cluster is made and until everything of it is removed, so whatever kills an
owner, what it has left can be found.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from thinwire.cluster.specs import HostSpec, check_name
from thinwire.errors import ThinwireError

STATE = Path("/run/thinwire")
SUBNETS = range(1, 255)


@dataclass(frozen=True)
class Owner:
    """The process that a cluster lives and dies with; its start tells it from a later one with the same id."""

    pid: int
    start: int  # clock ticks since boot

    @classmethod
    def this(cls) -> "Owner":
        """The running process."""
        return cls(os.getpid(), start_of(os.getpid()) or 0)

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return start_of(self.pid) == self.start


@dataclass(frozen=True)
class Record:
    """One cluster as it is written down. `owner` is None for a cluster that stays until it is taken down."""

    name: str
    subnet: int
    hosts: tuple[HostSpec, ...]
    owner: Owner | None
    created: float  # seconds since the epoch

    def abandoned(self) -> bool:
        """Whether its owner is gone."""
        return self.owner is not None and not self.owner.alive()


def claim(name: str, hosts: tuple[HostSpec, ...], owner: Owner | None) -> Record:
    """Write a new cluster down under a name and with a subnet that no other has."""
    check_name(name)
    STATE.mkdir(parents=True, exist_ok=True)
    with _locked():
        others = records()
        if any(other.name == name for other in others):
            raise ThinwireError(
                f"There is a cluster {name!r} already: run on it with `thinwire cluster run --name {name}`, "
                f"take it down with `thinwire cluster down --name {name}`, or choose another name."
            )
        free = sorted(set(SUBNETS) - {other.subnet for other in others})
        if not free:
            raise ThinwireError(f"There are {len(others)} clusters, as many as there can be: `thinwire cluster gc`.")
        record = Record(name, free[0], hosts, owner, time.time())
        staged = Path(tempfile.mkdtemp(dir=STATE, prefix="."))
        (staged / "cluster.json").write_text(json.dumps(asdict(record)))
        staged.rename(STATE / name)
    return record


def find(name: str) -> Record:
    """The cluster of this name."""
    there = {record.name: record for record in records()}
    if name not in there:
        known = f"there are {', '.join(sorted(there))}" if there else "there are none"
        raise ThinwireError(f"There is no cluster {name!r}, {known}: make it with `thinwire cluster up --name {name}`.")
    return there[name]


def records() -> list[Record]:
    """All clusters, the oldest first."""
    found = []
    for file in STATE.glob("[!.]*/cluster.json"):
        with contextlib.suppress(FileNotFoundError):  # taken down just now
            found.append(_read(json.loads(file.read_text())))
    return sorted(found, key=lambda record: record.created)


def forget(name: str) -> None:
    """The cluster is gone."""
    check_name(name)  # or more than one would be
    shutil.rmtree(STATE / name, ignore_errors=True)


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none (or only a zombie) with this id."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])


def _read(fields: dict) -> Record:
    owner = Owner(**fields["owner"]) if fields["owner"] else None
    hosts = tuple(HostSpec(**host) for host in fields["hosts"])
    return Record(fields["name"], fields["subnet"], hosts, owner, fields["created"])


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    import fcntl  # not on Windows, where the rest of this file can still say that there are no clusters

    with (STATE / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
