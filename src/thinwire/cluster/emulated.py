"""Hosts and links emulated on this machine: `with emulated([HostSpec(0.5, 10.0)] * 4) as cluster: ...`.

Linux and root. Every host is a network namespace with an address, an egress rate and a share of the CPU; what runs on
them is the real program over real TCP.
"""

import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from thinwire.cluster import cpu, namespaces, shaping, state
from thinwire.cluster.namespaces import Counters
from thinwire.cluster.rendezvous import DEFAULT_START_TIMEOUT_S, Rendezvous, exchange_of
from thinwire.cluster.running import IN_LINES, LineSink, Running
from thinwire.cluster.signals import stopping_unwinds, uninterrupted
from thinwire.cluster.specs import HostSpec, check_loss
from thinwire.cluster.takedown import signal_group, take_down
from thinwire.cluster.tools import require_emulation
from thinwire.errors import ThinwireError

__all__ = ["Cluster", "Counters", "HostSpec", "bring_up", "emulated"]

_ENTER, _FILLER, _KEEPER = (str(Path(__file__).with_name(name)) for name in ("enter.py", "filler.py", "keeper.py"))
_BARE_PYTHON = (sys.executable, "-I", "-S")
_PORTS = range(20_000, 30_000)  # below those that systems give to outgoing connections
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"}  # none of them can be reached from a host
_numbers = itertools.count()


class Cluster:
    """Emulated hosts that are up."""

    def __init__(self, record: state.Record):
        self.name = record.name
        self.specs = record.hosts
        self.addresses = tuple(namespaces.address(record.subnet, host) for host in range(len(record.hosts)))
        self._cores = cpu.deal_cores([spec.cpu for spec in record.hosts])

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        error_sink: LineSink | None = None,
        port: int | None = None,
        start_timeout_s: float | int = DEFAULT_START_TIMEOUT_S,
        cwd: str | Path | None = None,
        hosts: Sequence[int] | None = None,
    ) -> Running:
        """Start one process a host; to be used as a context manager, which ends them.

        Args:
            command: program and arguments, the same on every host.
            env: variables besides those of this process and of the rendezvous.
            stdin: as for subprocess.Popen; PIPE to write to each process in lines.
            stdout: the same; whoever leaves it a pipe reads it.
            error_sink: called with each host and line of standard error; the last lines are kept in any case.
            port: where host 0 listens; a free one if left out.
            start_timeout_s: seconds until all must have joined, for programs that call `rendezvous.join()`.
            cwd: the folder to start in.
            hosts: only these, of which the first is host 0 to the program; all if left out.

        Raises:
            ThinwireError: if the program is not there or the port is in use.
        """
        environment = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
        environment = {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1", **environment, **(env or {})}
        exchange = exchange_of(environment)
        if isinstance(command, str):
            raise ThinwireError(f"The command {command!r} is one text: give a list, the program and its arguments.")
        if not command:
            raise ThinwireError("There is no command to run: give one behind `--`.")
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            raise ThinwireError(f"There is no program {command[0]!r}: give its path, or install it.")
        chosen = self._free_port() if port is None else self._check_port(port)
        run = f"run-{os.getpid()}-{next(_numbers)}"
        chosen_hosts = list(range(len(self.specs))) if hosts is None else [one for n in hosts for one in self._which(n)]
        groups = [cpu.host_group(self.name, host) / run for host in chosen_hosts]
        idle_group = cpu.idle_group(self.name) / run
        processes: list[subprocess.Popen] = []
        fillers: list[subprocess.Popen] = []

        def signal_all(number: int) -> None:
            reached = {process for group in groups for process in signal_group(group, number)}
            for process in processes:
                if process.pid not in reached:  # it has not got as far as its group
                    process.send_signal(number)

        def clear() -> None:
            for group in (*groups, idle_group):
                cpu.remove_group(group)
            for filler in fillers:
                filler.kill()  # if it has not got as far as its group
                filler.wait()
            keeper.communicate()  # closes its standard input: nothing is left to be kept

        for group in (*groups, idle_group):
            group.mkdir()
        keeper = subprocess.Popen(
            [*_BARE_PYTHON, _KEEPER, *map(str, (*groups, idle_group))], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            first = self.addresses[chosen_hosts[0]]
            shares, dealt = [self.specs[n].cpu for n in chosen_hosts], [self._cores[n] for n in chosen_hosts]
            for core in cpu.shared_cores(shares, dealt):
                place = (str(os.getpid()), str(idle_group), str(core))
                fillers.append(subprocess.Popen([*_BARE_PYTHON, _FILLER, *place], start_new_session=True))
            for number, (host, group) in enumerate(zip(chosen_hosts, groups, strict=True)):
                meeting = Rendezvous(first, chosen, len(groups), number, start_timeout_s, exchange)
                cores = ",".join(map(str, self._cores[host]))
                space = namespaces.host_namespace(self.name, host)
                place = (str(os.getpid()), str(group), cores, space, f"h{host}")
                processes.append(
                    subprocess.Popen(
                        [*_BARE_PYTHON, _ENTER, *place, *command],
                        env={**environment, **meeting.environment()},
                        stdin=stdin,
                        stdout=stdout,
                        pipesize=1 << 20,
                        cwd=cwd,
                        **IN_LINES,
                    )
                )
            return Running(processes, [f"h{host}" for host in chosen_hosts], signal_all, clear, error_sink)
        except BaseException:
            with uninterrupted():
                for process in processes:
                    process.kill()
                clear()
                for process in processes:
                    process.communicate()
            raise

    def set_rate(self, mbps: float | int, host: int | None = None) -> None:
        """Change the egress rate of one host or of all, from now on; what is queued stays queued."""
        for number in self._which(host):
            shaping.set_rate(namespaces.host_namespace(self.name, number), mbps)

    def set_loss(self, loss: float | int, host: int | None = None) -> None:
        """Drop this share of the packets that arrive at one host or at all, from now on; 0 for none.

        Raises:
            ThinwireError: it is no share, or there is no program to drop packets with.
        """
        check_loss(loss)
        for number in self._which(host):
            shaping.set_loss(namespaces.host_namespace(self.name, number), loss)

    def set_cpu(self, share: float | int, host: int | None = None) -> None:
        """Change the CPU share of one host or of all, from now on, within the cores that it was made with."""
        for number in self._which(host):
            cores = len(self._cores[number])
            if share > cores:
                raise ThinwireError(
                    f"h{number} was made with {cores} core{'s' if cores > 1 else ''} and cannot be given a share of "
                    f"{share:g}: make it with a HostSpec of that share."
                )
            cpu.set_share(cpu.host_group(self.name, number), share, cores)

    def counters(self) -> tuple[Counters, ...]:
        """What went through the interface of each host since the cluster was made."""
        return tuple(namespaces.counters(namespaces.host_namespace(self.name, n)) for n in self._which(None))

    def _which(self, host: int | None) -> Sequence[int]:
        if host is None:
            return range(len(self.specs))
        if not 0 <= host < len(self.specs):
            raise ThinwireError(f"There is no host {host}: there are {len(self.specs)}, counted from 0.")
        return (host,)

    def _check_port(self, port: int) -> int:
        if not 0 < port < 65536:
            raise ThinwireError(f"{port} is no port: give one from 1 to 65535.")

        def bind() -> None:
            socket.create_server((self.addresses[0], port)).close()

        try:
            namespaces.inside(namespaces.host_namespace(self.name, 0), bind)
        except OSError as error:
            raise ThinwireError(
                f"Port {port} of h0 ({self.addresses[0]}) is in use ({error.strerror}): choose another with --port, or "
                "leave it out."
            ) from None
        return port

    def _free_port(self) -> int:
        for _ in range(20):
            try:
                return self._check_port(random.choice(_PORTS))
            except ThinwireError:
                continue
        raise ThinwireError(
            "No free port was found on h0: does something else run there? See `thinwire cluster status`."
        )


def bring_up(specs: Sequence[HostSpec], name: str | None = None, stays: bool = False) -> Cluster:
    """Make a cluster; `stays` if it is to outlive this process. Whoever calls takes it down.

    Raises:
        ThinwireError: where emulation is not to be had, or the name is taken; nothing is left then.
    """
    require_emulation()
    if not specs:
        raise ThinwireError("A cluster needs at least one host.")
    if any(spec.loss for spec in specs):
        shaping.require_loss_tool()
    chosen = f"t{os.getpid()}-{next(_numbers)}" if name is None else name
    record = state.claim(chosen, tuple(specs), None if stays else state.Owner.this())
    try:
        namespaces.make(chosen, record.subnet, len(specs))
        cores = cpu.deal_cores([spec.cpu for spec in specs])
        for host, spec in enumerate(specs):
            shaping.set_rate(namespaces.host_namespace(chosen, host), spec.mbps)
            if spec.loss:
                shaping.set_loss(namespaces.host_namespace(chosen, host), spec.loss)
            cpu.make_group(cpu.host_group(chosen, host), spec.cpu, len(cores[host]))
        cpu.make_idle_group(cpu.idle_group(chosen))
        return Cluster(record)
    except BaseException:
        take_down(chosen)
        raise


@contextmanager
def emulated(specs: Sequence[HostSpec], name: str | None = None) -> Iterator[Cluster]:
    """A cluster for as long as the block runs; nothing is left afterwards, also after an error, Ctrl-C or SIGTERM.

    After `kill -9` of this process what runs on the hosts is ended, and `thinwire cluster gc` removes the rest.

    Example:
        with emulated([HostSpec(cpu=0.5, mbps=10.0)] * 2) as cluster:
            with cluster.start([sys.executable, "job.py"]) as running:
                running.wait(60)
    """
    with stopping_unwinds():
        cluster = bring_up(specs, name)
        try:
            yield cluster
        finally:
            take_down(cluster.name)
