"""CPU shares by control groups, version 1 (`cpu.cfs_quota_us`) or 2 (`cpu.max`), and which cores a host runs on.

A group a host holds its quota; every command that runs on it has a group below that, by which all of its processes are
found, also those that a shell of it has started.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.cluster.specs import check_share
from thinwire.errors import ThinwireError

# As short as keeps shares exact: in 5 ms the scheduler's tick of 4 ms left 0.4 of a core where a half was asked for.
PERIOD_US = 10_000
LEAST_QUOTA_US = 1_000  # the kernel's
GROUP = "thinwire"
IDLE_PREFIX = f"{GROUP}-idle-"


@dataclass(frozen=True)
class Controller:
    """Where control groups are, and of which version."""

    root: Path
    version: int


def find_controller(mounts: str | None = None) -> Controller:
    """The mounted hierarchy that limits CPU time; `mounts` as in /proc/mounts."""
    rows = [line.split() for line in (Path("/proc/mounts").read_text() if mounts is None else mounts).splitlines()]
    for _, place, kind, options, *_ in rows:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Controller(Path(place), 1)
    for _, place, kind, *_ in rows:
        if kind == "cgroup2":
            return Controller(Path(place), 2)
    raise ThinwireError("CPU shares need control groups and none are mounted: mount cgroup2 on /sys/fs/cgroup.")


def quota_us(share: float | int) -> tuple[int, int]:
    """Quota and period, in µs, of a share of a core."""
    check_share(share)
    period = max(PERIOD_US, math.ceil(LEAST_QUOTA_US / share))
    return round(share * period), period


def host_group(cluster: str, host: int) -> Path:
    """The folder of a host's group."""
    return cluster_group(cluster) / f"h{host}"


def cluster_group(cluster: str) -> Path:
    """The folder of a cluster's group."""
    return find_controller().root / GROUP / cluster


def idle_group(cluster: str) -> Path:
    """The folder of the group of what fills a cluster's idle time; beside all others, for it is to give way to all."""
    return find_controller().root / f"{IDLE_PREFIX}{cluster}"


def clusters_with_groups() -> set[str]:
    """The names of all clusters that have a group of either kind."""
    try:
        root = find_controller().root
    except ThinwireError:
        return set()
    hosts, idle = (root / GROUP).glob("*/"), root.glob(f"{IDLE_PREFIX}*/")
    return {folder.name for folder in hosts} | {folder.name.removeprefix(IDLE_PREFIX) for folder in idle}


def make_group(group: Path, share: float | int, cores: int) -> None:
    """Make a host's group and limit it."""
    controller = find_controller()
    try:
        group.mkdir(parents=True, exist_ok=True)
        if controller.version == 2:
            for above in (controller.root, controller.root / GROUP, group.parent):
                (above / "cgroup.subtree_control").write_text("+cpu")
    except OSError as error:
        raise ThinwireError(
            f"Cannot make the control group {error.filename or group} ({error.strerror}): inside a container, start it "
            "with its control groups writable (docker: --privileged)."
        ) from None
    set_share(group, share, cores)


def make_idle_group(group: Path) -> None:
    """Make a group that runs only when nothing beside it would: at the top, so that this is anything else.

    Hosts' groups must have been made: they have the top's controllers handed down.
    """
    group.mkdir(exist_ok=True)
    try:
        (group / "cpu.idle").write_text("1")
    except OSError:  # Linux before 5.15: as little as there is
        name, least = ("cpu.weight", "1") if find_controller().version == 2 else ("cpu.shares", "2")
        (group / name).write_text(least)


def set_share(group: Path, share: float | int, cores: int) -> None:
    """Limit a group to a share of one core's time, from now on; it runs on so many cores.

    A group of whole cores is kept to them by its affinity alone: a quota of as much takes some per cent of them away.
    """
    quota, period = quota_us(share)
    whole = share >= cores
    if find_controller().version == 2:
        writes = [("cpu.max", f"{'max' if whole else quota} {period}")]
    else:
        # Unlimited in between: a quota is checked against the period that holds at the moment.
        writes = [("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", str(period))]
        writes += [] if whole else [("cpu.cfs_quota_us", str(quota))]
    try:
        for name, value in writes:
            (group / name).write_text(value)
    except OSError as error:
        raise ThinwireError(f"The CPU share {share:g} is refused by {group} ({error.strerror}); try another.") from None


def deal_cores(shares: Sequence[float | int], cores: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """The cores that each host runs on: as many as its share needs, those with the least on them so far.

    A host of half a core sees one core, so that its programs start one thread and not one for each of the machine's.
    """
    cores = sorted(os.sched_getaffinity(0)) if cores is None else cores
    load = dict.fromkeys(cores, 0.0)
    dealt: list[tuple[int, ...]] = [()] * len(shares)
    for host in sorted(range(len(shares)), key=lambda host: -shares[host]):  # large ones first: they fit best
        mine = sorted(load, key=lambda core: (load[core], core))[: min(math.ceil(shares[host]), len(load))]
        for core in mine:
            load[core] += shares[host] / len(mine)
        dealt[host] = tuple(sorted(mine))
    return dealt


def shared_cores(shares: Sequence[float | int], dealt: Sequence[Sequence[int]]) -> list[int]:
    """The cores of which a host has only a part."""
    return sorted({core for share, cores in zip(shares, dealt, strict=True) if share < len(cores) for core in cores})


def stolen_s(stat: str | None = None) -> float:
    """CPU seconds that a hypervisor has given to other machines while programs here wanted them, since the start.

    Args:
        stat: as in /proc/stat.
    """
    first = (Path("/proc/stat").read_text() if stat is None else stat).split("\n", 1)[0].split()
    return int(first[8]) / os.sysconf("SC_CLK_TCK") if len(first) > 8 else 0.0


def processes_in(group: Path) -> set[int]:
    """The ids of all processes in a group and the groups below."""
    found: set[int] = set()
    for file in [group / "cgroup.procs", *group.glob("**/cgroup.procs")]:
        with contextlib.suppress(OSError):  # the group is gone
            found.update(map(int, file.read_text().split()))
    return found


def end_all(group: Path, within_s: float | int = 5.0) -> int:
    """Kill all processes in a group, again and again until none is left; how many there were."""
    ended: set[int] = set()
    deadline = time.monotonic() + within_s
    while (alive := processes_in(group)) and time.monotonic() < deadline:
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        ended |= alive
        time.sleep(0.01)
    return len(ended)


def remove_group(group: Path) -> None:
    """End what runs in a group and remove it and all groups below."""
    if not group.is_dir():
        return
    end_all(group)
    below = sorted((path for path in group.glob("**/*") if path.is_dir()), key=lambda path: -len(path.parts))
    for folder in [*below, group]:
        _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    for _ in range(100):  # a process that has just ended is counted for a moment more
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
