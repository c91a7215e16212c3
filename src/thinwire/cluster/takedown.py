"""Taking clusters down, and finding what dead owners have left behind."""

import contextlib
import os
import signal
from pathlib import Path

from thinwire.cluster import cpu, namespaces, state
from thinwire.cluster.signals import uninterrupted
from thinwire.cluster.specs import NAME, check_name


def take_down(name: str) -> int:
    """Remove all of a cluster, whatever there is of it; how many processes were ended for that.

    Raises:
        ThinwireError: this cannot be a cluster's name. Nothing is removed.
    """
    check_name(name)
    with uninterrupted():
        group, idle_group = cpu.cluster_group(name), cpu.idle_group(name)
        ended = cpu.end_all(group)
        belonging = sorted(space for space in namespaces.existing() if namespaces.cluster_of(space) == name)
        for namespace in belonging:
            for process in namespaces.processes_in(namespace):  # one that has left its control group
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                ended += 1
        namespaces.remove(belonging)
        cpu.remove_group(group)
        cpu.remove_group(idle_group)
        with contextlib.suppress(OSError):  # other clusters are in it, or it is not there
            group.parent.rmdir()
        state.forget(name)
    return ended


def signal_group(group: Path, number: int) -> set[int]:
    """Send a signal to every process in a control group; which those are."""
    found = cpu.processes_in(group)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    return found


def leftovers() -> dict[str, str]:
    """Clusters whose owner is gone, and parts of some that nobody has written down: name, and why it is left over."""
    parts = {namespaces.cluster_of(namespace) for namespace in namespaces.existing()}
    parts |= {name for name in cpu.clusters_with_groups() if NAME.fullmatch(name)}
    there = state.records()  # asked second: a record comes before its parts and goes after them
    found = {
        record.name: f"its owner, process {record.owner.pid}, is gone"
        for record in there
        if record.owner is not None and record.abandoned()
    }
    found |= dict.fromkeys(parts - {record.name for record in there}, "nobody has written it down")
    return dict(sorted(found.items()))
