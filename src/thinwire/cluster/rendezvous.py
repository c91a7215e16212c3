"""How processes on several hosts find each other: three environment variables, and `join()`, which reads them.

A script that calls `join()` first runs under `thinwire cluster run` on emulated hosts and on real ones alike.
"""

import atexit
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from thinwire.cluster.handshake import agree, own_facts
from thinwire.cluster.priority import carry_behind, threads
from thinwire.errors import ThinwireError

COORDINATOR = "THINWIRE_COORDINATOR"  # address:port of host 0
HOSTS = "THINWIRE_HOSTS"  # how many there are
HOST = "THINWIRE_HOST"  # which one this is, from 0
EXCHANGE = "THINWIRE_EXCHANGE"  # how CPU hosts gather: by connections of their own (thinwire.wire.streams), or by gloo
EXCHANGES = ("streams", "gloo")
START_TIMEOUT = "THINWIRE_START_TIMEOUT"  # seconds until all must have come
DEFAULT_START_TIMEOUT_S = 60.0
DEFAULT_PORT = 8476
LAST_WAIT_S = 3  # for the others, of a host that ends by sys.exit() without having left
HEARTBEAT_S = 20  # after so long without a word from a host jax ends the others


@dataclass(frozen=True)
class Rendezvous:
    """Where the hosts meet, how many they are and which one this is."""

    address: str  # of host 0
    port: int
    hosts: int
    host: int
    start_timeout_s: float | int = DEFAULT_START_TIMEOUT_S
    exchange: str = EXCHANGES[0]

    @property
    def coordinator(self) -> str:
        """`address:port`, an IPv6 address in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that say all this."""
        return {
            COORDINATOR: self.coordinator,
            HOSTS: str(self.hosts),
            HOST: str(self.host),
            START_TIMEOUT: f"{self.start_timeout_s:g}",
            EXCHANGE: self.exchange,
        }


def from_environment(environment: Mapping[str, str] | None = None) -> Rendezvous:
    """The rendezvous that this process was started for.

    Raises:
        ThinwireError: if a variable is missing or makes no sense.
    """
    environment = os.environ if environment is None else environment
    for name in (COORDINATOR, HOSTS, HOST):
        if name not in environment:
            raise ThinwireError(f"{name} is not set: start this program by `thinwire cluster run -- COMMAND`.")
    address, _, port = environment[COORDINATOR].rpartition(":")
    found = Rendezvous(
        address.removeprefix("[").removesuffix("]"),
        _number(COORDINATOR, port, environment),
        _number(HOSTS, environment[HOSTS], environment),
        _number(HOST, environment[HOST], environment),
        _seconds(environment),
        exchange_of(environment),
    )
    if not (found.address and 0 < found.port < 65536):
        raise ThinwireError(f"{COORDINATOR} is {environment[COORDINATOR]!r}; it must be ADDRESS:PORT of host 0.")
    if not 0 <= found.host < found.hosts:
        raise ThinwireError(f"{HOST} is {found.host} and {HOSTS} is {found.hosts}; hosts count from 0.")
    return found


def join(
    facts: Mapping[str, Any] | None = None,
    start_timeout_s: float | int | None = None,
    step_behind: bool = True,
) -> Rendezvous:
    """Wait for all hosts, check that they are alike, and make one JAX of them.

    Must come before anything that computes; `jax.devices()` lists the devices of all hosts after it.

    Args:
        facts: what must be equal on all hosts besides the versions: hash of the model, strategy, options.
        start_timeout_s: seconds until all must have come; what the launcher said, or 60, if left out.
        step_behind: put gloo's thread behind those that compute (`thinwire.cluster.priority`).

    CPU hosts of one device each also connect for gathers of their own (`thinwire.wire.streams`), unless
    THINWIRE_EXCHANGE is `gloo`.

    Raises:
        ThinwireError: on every host, if one has not come in time or differs; the sentence names it. Or this process has
            joined before.
    """
    import jax  # here, for whoever starts programs does without it

    from thinwire.wire import connecting

    meeting = from_environment()
    timeout_s = meeting.start_timeout_s if start_timeout_s is None else start_timeout_s
    if meeting.hosts == 1:
        return meeting
    if jax.distributed.is_initialized():
        raise ThinwireError("This process has joined the others already: call join() once, before all else.")
    alike = {**own_facts(), HOSTS: f"{meeting.hosts}", EXCHANGE: meeting.exchange, **(facts or {})}
    agree(meeting.address, meeting.port, meeting.hosts, meeting.host, alike, timeout_s)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Or a program that is dispatched while another runs would take XLA's only thread on a host of one core, and its
    # callbacks would wait there for large arguments that the same thread is to copy.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(
        meeting.coordinator,
        meeting.hosts,
        meeting.host,
        cluster_detection_method="deactivate",
        coordinator_bind_address=meeting.coordinator,  # or it would listen at every address of host 0
        initialization_timeout=max(1, round(timeout_s)),
        heartbeat_timeout_seconds=HEARTBEAT_S,
        shutdown_timeout_seconds=LAST_WAIT_S,
    )
    _end_at_once_by_exceptions()
    before = threads()
    jax.local_devices()  # makes the collectives
    if step_behind:
        carry_behind(before)
    # By what all hosts know, so that they agree: hosts of several devices gather by gloo.
    alone = len({device.process_index for device in jax.devices()}) == jax.device_count() == meeting.hosts
    if meeting.exchange == "streams" and alone and jax.default_backend() == "cpu":
        connecting.open_between_hosts(_own_address(meeting), timeout_s)
    return meeting


def _end_at_once_by_exceptions() -> None:
    """From now on a program that an exception ends, ends: JAX's goodbye would wait for hosts that wait for this one."""
    said = sys.excepthook
    failed: list[type[BaseException]] = []

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        failed.append(kind)
        said(kind, error, traceback)

    def end() -> None:
        if failed:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(130 if issubclass(failed[0], KeyboardInterrupt) else 1)

    sys.excepthook = hook
    atexit.register(end)  # runs before JAX's


def leave() -> None:
    """Say goodbye to the other hosts; for the end of a program that has joined."""
    import jax
    from jax.experimental import multihost_utils

    from thinwire.wire import streams

    try:
        multihost_utils.sync_global_devices("leave")  # however long it takes the others to come so far
        jax.distributed.shutdown()  # now nobody waits for a packet any more
    finally:
        streams.close_between_hosts()


def exchange_of(environment: Mapping[str, str]) -> str:
    """How CPU hosts are to gather.

    Raises:
        ThinwireError: THINWIRE_EXCHANGE is none of the ways.
    """
    found = environment.get(EXCHANGE, EXCHANGES[0])
    if found not in EXCHANGES:
        raise ThinwireError(f"{EXCHANGE} is {found!r}; use one of {', '.join(EXCHANGES)}.")
    return found


def _own_address(meeting: Rendezvous) -> str:
    """The address by which this host is known to host 0, or of host 0."""
    family, kind, _, _, address = socket.getaddrinfo(meeting.address, meeting.port, type=socket.SOCK_DGRAM)[0]
    if meeting.host == 0:
        return str(address[0])
    with socket.socket(family, kind) as towards:
        towards.connect(address)  # of datagrams: nothing is sent
        return str(towards.getsockname()[0])


def _number(name: str, text: str, environment: Mapping[str, str]) -> int:
    try:
        return int(text)
    except ValueError:
        raise ThinwireError(f"{name} is {environment[name]!r}; there must be a whole number in it.") from None


def _seconds(environment: Mapping[str, str]) -> float:
    text = environment.get(START_TIMEOUT, f"{DEFAULT_START_TIMEOUT_S}")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise ThinwireError(f"{START_TIMEOUT} is {text!r}; give seconds, as 60.")
    return seconds
