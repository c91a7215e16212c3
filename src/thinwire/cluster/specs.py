"""What an emulated host is given: a share of the CPU, an egress rate, loss. And how the command line writes them."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.errors import ThinwireError
from thinwire.number_lists import parse_numbers

MAX_HOSTS = 64
LEAST_CPU = 0.01  # of a core
LEAST_MBPS, MOST_MBPS = 0.01, 100_000.0
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")  # of a cluster


@dataclass(frozen=True)
class HostSpec:
    """One host.

    Attributes:
        cpu: share of the time of one core; 0.5 is half a core, 2 is two cores.
        mbps: rate at which it can send, in 10⁶ bits a second; it receives as fast as the others send.
        loss: share of the packets that arrive and are dropped, 0 ≤ loss < 1.

    Raises:
        ThinwireError: for a value that no host can have.
    """

    cpu: float | int
    mbps: float | int
    loss: float | int = 0.0

    def __post_init__(self) -> None:
        check_share(self.cpu)
        check_rate(self.mbps)
        check_loss(self.loss)


def check_name(name: str) -> None:
    """Refuse a cluster's name that cannot be one of namespaces and folders."""
    if not NAME.fullmatch(name):
        raise ThinwireError(
            f"{name!r} is no name for a cluster: take up to 32 small letters, digits and dashes inside, as 'lab'."
        )


def check_share(cpu: float | int) -> None:
    """Refuse a CPU share that is no positive number of cores."""
    if not (math.isfinite(cpu) and cpu > 0):
        raise ThinwireError(f"A CPU share of {cpu:g} leaves no time to compute: give more than 0, as 0.5 (of a core).")
    if cpu < LEAST_CPU:
        raise ThinwireError(f"A CPU share of {cpu:g} is too small to be kept to: give at least {LEAST_CPU:g}.")


def check_rate(mbps: float | int) -> None:
    """Refuse a rate that no link can have."""
    if not mbps > 0:
        raise ThinwireError(f"A rate of {mbps:g} Mbps sends nothing: give more than 0, as 10.")
    if not LEAST_MBPS <= mbps <= MOST_MBPS:
        raise ThinwireError(f"A rate of {mbps:g} Mbps cannot be kept to: give {LEAST_MBPS:g} to {MOST_MBPS:,.0f} Mbps.")


def check_loss(loss: float | int) -> None:
    """Refuse a loss that is no share of packets."""
    if not 0 <= loss < 1:
        raise ThinwireError(f"A loss of {loss:g} is no share of packets: give 0 or more and less than 1.")


def parse_hosts(hosts: int | None, cpu: str, mbps: str, loss: str) -> list[HostSpec]:
    """Hosts from `--hosts 3 --cpu 0.5,0.5,0.25 --mbps 10 --loss 0`; one value stands for every host.

    `hosts` may be left out where one of the lists says how many there are.
    """
    given = {"--cpu": cpu, "--mbps": mbps, "--loss": loss}
    lists = {option: parse_numbers(option, text, "0.5,0.25") for option, text in given.items()}
    count = max(map(len, lists.values())) if hosts is None else hosts
    if not 1 <= count <= MAX_HOSTS:
        raise ThinwireError(f"--hosts is {count}; there can be 1 to {MAX_HOSTS}.")
    for option, values in lists.items():
        if len(values) not in (1, count):
            raise ThinwireError(
                f"{option} has {len(values)} values and there are {count} hosts: give one for all, or {count}."
            )
    columns = [values * count if len(values) == 1 else values for values in lists.values()]
    return [HostSpec(*row) for row in zip(*columns, strict=True)]


def read_lines(path: str | Path, what: str) -> list[str]:
    """The lines of a small file that a user has written, such as a "host file".

    Raises:
        ThinwireError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ThinwireError(f"Cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}.") from None


def too_much_cpu(specs: Sequence[HostSpec], cores: int | None = None) -> str | None:
    """A sentence if the hosts together are promised more than this machine has, else None."""
    cores = usable_cores() if cores is None else cores
    asked = sum(spec.cpu for spec in specs)
    if asked <= cores + 1e-9:
        return None
    return (
        f"the hosts are given {asked:g} cores together and this machine has {cores}: "
        f"they will slow each other down, and times say nothing; shares that add up to {cores} would do"
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
