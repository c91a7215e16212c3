"""Hosts as network namespaces, and the switch between them, a bridge in a namespace of its own.

Nothing appears among the machine's own interfaces, routes and firewall rules, so clusters can neither meet them nor
each other, and removing the namespaces removes everything. A host finds the others by the names h0, h1, … in its own
/etc/hosts: `ip netns exec` puts /etc/netns/NAMESPACE/hosts in that place. gloo listens where the host's own name points
to.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from thinwire.cluster.shaping import INTERFACE
from thinwire.cluster.specs import NAME
from thinwire.cluster.tools import batch, call
from thinwire.errors import ThinwireError

PREFIX = "thinwire-"
_PART = re.compile(rf"{PREFIX}(?P<cluster>{NAME.pattern})-(h\d+|switch)")
NETNS = Path("/run/netns")
FILES = Path("/etc/netns")
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


@dataclass(frozen=True)
class Counters:
    """What went through a host's interface since it was made, Ethernet headers included."""

    sent_bytes: int
    received_bytes: int
    sent_packets: int
    received_packets: int


def host_namespace(cluster: str, host: int) -> str:
    """The namespace of a host."""
    return f"{PREFIX}{cluster}-h{host}"


def switch_namespace(cluster: str) -> str:
    """The namespace with the bridge."""
    return f"{PREFIX}{cluster}-switch"


def address(subnet: int, host: int) -> str:
    """The address of a host of the cluster with this subnet."""
    return f"10.77.{subnet}.{host + 1}"


def make(cluster: str, subnet: int, count: int) -> None:
    """Make the switch and `count` hosts with an interface and an address each, all up."""
    switch = switch_namespace(cluster)
    call("ip", "netns", "add", switch)
    batch("ip", switch, "link add switch type bridge", "link set switch addrgenmode none up")
    names = "".join(f"{address(subnet, host)} h{host}\n" for host in range(count))
    for host in range(count):
        namespace = host_namespace(cluster, host)
        folder = FILES / namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        call("ip", "netns", "add", namespace)
        batch(
            "ip",
            switch,
            f"link add h{host} type veth peer name {INTERFACE} netns {namespace}",
            f"link set h{host} master switch addrgenmode none up",
        )
        batch(
            "ip",
            namespace,
            "link set lo up",
            f"link set {INTERFACE} addrgenmode none",  # no traffic of IPv6's own in the counters
            f"link set {INTERFACE} up",
            f"address add {address(subnet, host)}/24 dev {INTERFACE}",
        )


def remove(namespaces: Sequence[str]) -> None:
    """Remove namespaces with all that is in them, and their files; those that are gone already are passed over."""
    for namespace in namespaces:
        if (NETNS / namespace).exists():
            with contextlib.suppress(ThinwireError):  # another one may be removing it too
                call("ip", "netns", "delete", namespace)
        shutil.rmtree(FILES / namespace, ignore_errors=True)
    with contextlib.suppress(OSError):  # others' files are in it, or it is not there
        FILES.rmdir()


def existing() -> set[str]:
    """Every namespace, or folder of one, that is of a cluster by its name."""
    return {
        path.name
        for folder in (NETNS, FILES)
        if folder.is_dir()
        for path in folder.iterdir()
        if _PART.fullmatch(path.name)
    }


def cluster_of(namespace: str) -> str:
    """The name of the cluster that one of the ``existing`` namespaces belongs to."""
    found = _PART.fullmatch(namespace)
    if found is None:
        raise ValueError(f"{namespace!r} is no namespace of a cluster")
    return found["cluster"]


def processes_in(namespace: str) -> set[int]:
    """The ids of the processes in a namespace."""
    if not (NETNS / namespace).exists():
        return set()
    try:
        return {int(word) for word in call("ip", "netns", "pids", namespace).split()}
    except ThinwireError:  # removed just now
        return set()


def counters(namespace: str) -> Counters:
    """What has gone through the host's interface so far."""
    (link,) = json.loads(call("ip", "-n", namespace, "-json", "-stats", "link", "show", "dev", INTERFACE))
    sent, received = link["stats64"]["tx"], link["stats64"]["rx"]
    return Counters(sent["bytes"], received["bytes"], sent["packets"], received["packets"])


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Call a function whose new sockets belong to the namespace."""
    outcome: list[T] = []
    errors: list[Exception] = []

    def visit() -> None:
        try:
            with (NETNS / namespace).open() as place:
                if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)
            outcome.append(work())
        except Exception as error:
            errors.append(error)

    # A namespace is a property of a thread: this one goes there and never comes back.
    thread = threading.Thread(target=visit)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
