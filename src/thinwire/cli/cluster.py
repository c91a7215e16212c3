"""`thinwire cluster up|run|status|down|gc`: one command on several hosts, emulated on this machine or real."""

import argparse
import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterable

from thinwire.cli import console
from thinwire.cluster import hostfile, namespaces, state, tools, traces
from thinwire.cluster.emulated import Cluster, bring_up, emulated
from thinwire.cluster.rendezvous import DEFAULT_PORT, DEFAULT_START_TIMEOUT_S
from thinwire.cluster.running import ENDED_WITHIN_S, HostError, Running, shell_code
from thinwire.cluster.signals import stopping_unwinds
from thinwire.cluster.specs import check_name, parse_hosts, too_much_cpu
from thinwire.cluster.takedown import leftovers, take_down
from thinwire.errors import ThinwireError
from thinwire.reports.json_file import to_json

NAME = "cluster"
HELP = "run a command on several hosts, emulated on this machine (Linux, root) or real (ssh)"
EXAMPLES = """\
thinwire cluster run --hosts 4 --cpu 0.5 --mbps 10 -- python job.py
thinwire cluster run --hosts 2 --markov 100:10:2 --seed 1 -- python job.py
thinwire cluster up --hosts 2 --mbps 10 --name lab
thinwire cluster run --name lab -- python job.py
thinwire cluster run --hostfile hosts.txt -- python job.py
thinwire cluster run --hostfile hosts.txt --print -- python job.py
thinwire cluster down --name lab
"""
_DEFAULTS = {"cpu": "1", "mbps": "100", "loss": "0"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, what: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", allow_abbrev=False)

    up = action("up", "make a cluster that stays until it is taken down")
    _add_hosts(up)
    up.add_argument("--name", default="lab", help="what to call it (default: lab)")

    run = action("run", f"run a command on every host; if one dies the others end within {ENDED_WITHIN_S:g} s")
    _add_hosts(run)
    run.add_argument("--name", help="run on this cluster, made by `up`, in place of one for the command alone")
    run.add_argument("--hostfile", metavar="FILE", help="run on real hosts: one `user@address [options of ssh]` a line")
    run.add_argument("--print", action="store_true", help="with --hostfile: print one command per host to paste there")
    run.add_argument("--cd", metavar="FOLDER", help="the folder to run in")
    run.add_argument(
        "--port", type=int, metavar="N", help=f"port of host 0 (default: free, real hosts: {DEFAULT_PORT})"
    )
    run.add_argument(
        "--start-timeout",
        type=float,
        default=DEFAULT_START_TIMEOUT_S,
        metavar="S",
        help=f"seconds until every host must have joined (default: {DEFAULT_START_TIMEOUT_S:g})",
    )
    run.add_argument("--timeout", type=float, metavar="S", help="end all after so many seconds (default: never)")
    trace = run.add_mutually_exclusive_group()
    trace.add_argument("--trace", metavar="FILE", help="CSV of `seconds,mbps`: the rate of all hosts while it runs")
    trace.add_argument(
        "--markov", metavar="GOOD:BAD:S", help="a rate that changes between two, each for S seconds in the mean"
    )
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of --markov (default: 0)")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...", help="program and arguments")

    status = action("status", "list the clusters of this machine")
    status.add_argument("--json", action="store_true", help="print JSON")

    down = action("down", "take a cluster down and end what runs on it")
    which = down.add_mutually_exclusive_group(required=True)
    which.add_argument("--name", help="which one")
    which.add_argument("--all", action="store_true", help="every one")

    action("gc", "remove what launchers that were killed have left behind")


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", type=int, metavar="N", help="how many (default: as many as the longest list below)")
    parser.add_argument("--cpu", metavar="X[,X...]", help="share of a core of all hosts, or of each (default: 1)")
    parser.add_argument("--mbps", metavar="X[,X...]", help="rate at which a host sends, 10⁶ bits/s (default: 100)")
    parser.add_argument("--loss", metavar="X[,X...]", help="share of arriving packets that are lost (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; `run` returns the exit code of the host that failed first, or 0."""
    return {"up": _up, "run": _run, "status": _status, "down": _down, "gc": _gc}[args.action](args)


def _up(args: argparse.Namespace) -> int:
    specs = _specs(args)
    check_name(args.name)
    with stopping_unwinds():
        cluster = bring_up(specs, args.name, stays=True)
    console.say(f"cluster {cluster.name}: {', '.join(_host(cluster, host) for host in range(len(specs)))}")
    return 0


def _run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise ThinwireError("There is no command to run: give one behind `--`, as `-- python job.py`.")
    for option, seconds in (("--start-timeout", args.start_timeout), ("--timeout", args.timeout)):
        if seconds is not None and not 0 < seconds < 86400:
            raise ThinwireError(f"{option} is {seconds:g}; give seconds, more than 0 and less than a day.")
    if args.hostfile is not None:
        return _run_on_real_hosts(args, command)
    if args.print:
        raise ThinwireError("--print is for real hosts: name them with --hostfile.")
    trace = _trace(args)
    if args.name is not None:
        _refuse(args, ("hosts", "cpu", "mbps", "loss"), f"the cluster {args.name!r} is there already and has its own")
        tools.require_emulation()
        cluster = Cluster(state.find(args.name))
        with stopping_unwinds():
            try:
                _reset_rates(cluster)  # of a command with a trace that was killed
                return _run_on(cluster, args, command, trace)
            finally:
                if trace is not None:
                    _reset_rates(cluster)
    specs = _specs(args)
    with emulated(specs) as cluster:
        return _run_on(cluster, args, command, trace)


def _reset_rates(cluster: Cluster) -> None:
    for host, spec in enumerate(cluster.specs):
        cluster.set_rate(spec.mbps, host)


def _run_on(cluster: Cluster, args: argparse.Namespace, command: list[str], trace: Iterable[traces.Step] | None) -> int:
    following = contextlib.nullcontext() if trace is None else traces.following(trace, cluster.set_rate)
    options = {"port": args.port, "start_timeout_s": args.start_timeout, "cwd": args.cd}
    with following, cluster.start(command, error_sink=_to_stderr, **options) as running:
        return _stream(running, args.timeout)


def _run_on_real_hosts(args: argparse.Namespace, command: list[str]) -> int:
    _refuse(args, ("hosts", "cpu", "mbps", "loss", "name", "trace", "markov"), "real hosts have their own")
    hosts = hostfile.read_hosts(args.hostfile)
    port = DEFAULT_PORT if args.port is None else args.port
    lines = hostfile.remote_commands(hosts, command, port, args.start_timeout, args.cd)
    if args.print:
        for host, line in zip(hosts, lines, strict=True):
            console.say(f"# on {host.target}\n{line}")
        return 0
    with stopping_unwinds(), hostfile.start_by_ssh(hosts, lines, error_sink=_to_stderr) as running:
        return _stream(running, args.timeout)


def _stream(running: Running, timeout_s: float | None) -> int:
    """Print what the hosts print, each line behind the host's number, until all have ended."""
    readers = [
        threading.Thread(target=_to_stdout, args=(host, process.stdout), daemon=True)
        for host, process in enumerate(running.processes)
    ]
    for reader in readers:
        reader.start()
    code = 0
    try:
        running.wait(timeout_s)
    except HostError as error:
        console.fail(error)
        code = shell_code(error.code)
    finally:
        running.end()
        for reader in readers:
            reader.join(2)
    return code


def _to_stdout(host: int, stream: Iterable[str]) -> None:
    heard = True
    with contextlib.suppress(ValueError):  # closed
        for line in stream:
            if not heard:  # nobody reads ours any more, as behind `| head`; a program whose pipe is full would wait
                continue
            try:
                sys.stdout.write(f"h{host}| {line.rstrip(chr(10))}\n")
                sys.stdout.flush()
            except BrokenPipeError:
                heard = False


def _to_stderr(host: int, line: str) -> None:
    console.remark(f"h{host}| {line}")


def _status(args: argparse.Namespace) -> int:
    records, left = state.records(), leftovers()
    rows = [
        {
            "name": record.name,
            "hosts": [dataclasses.asdict(spec) for spec in record.hosts],
            "addresses": list(Cluster(record).addresses),
            "owner": record.owner.pid if record.owner else None,
            "age_s": round(time.time() - record.created, 1),
            "processes": sum(len(namespaces.processes_in(n)) for n in _namespaces(record)),
            "left_over": left.pop(record.name, None),
        }
        for record in records
    ]
    if args.json:
        console.say(to_json({"clusters": rows, "left_over": left}).rstrip())
        return 0
    for record, row in zip(records, rows, strict=True):
        owner = f"of process {row['owner']}" if row["owner"] else "stays until `down`"
        console.say(f"{row['name']}: {owner}, {row['processes']} processes, {row['age_s']:.0f} s old")
        for host in range(len(record.hosts)):
            console.say(f"  {_host(Cluster(record), host)}")
        if row["left_over"]:
            console.say(f"  left over: {row['left_over']}; `thinwire cluster gc` removes it")
    for name, why in left.items():
        console.say(f"{name}: left over: {why}; `thinwire cluster gc` removes it")
    if not rows and not left:
        console.say("no clusters")
    return 0


def _down(args: argparse.Namespace) -> int:
    tools.require_emulation()
    names = [record.name for record in state.records()] if args.all else [state.find(args.name).name]
    for name in names:
        ended = take_down(name)
        console.say(f"{name}: taken down" + (f", {ended} processes ended" if ended else ""))
    return 0


def _gc(args: argparse.Namespace) -> int:
    tools.require_emulation()
    found = leftovers()
    for name, why in found.items():
        ended = take_down(name)
        console.say(f"{name}: removed, since {why}" + (f"; {ended} processes ended" if ended else ""))
    if not found:
        console.say("nothing is left over")
    return 0


def _specs(args: argparse.Namespace):
    values = {name: getattr(args, name) or default for name, default in _DEFAULTS.items()}
    if args.hosts is None and not any(getattr(args, name) for name in _DEFAULTS):
        raise ThinwireError("How many hosts? Say --hosts 2, or give a list as --cpu 0.5,0.5.")
    specs = parse_hosts(args.hosts, **values)
    warning = too_much_cpu(specs)
    if warning:
        console.remark(f"thinwire: warning: {warning}")
    return specs


def _trace(args: argparse.Namespace) -> Iterable[traces.Step] | None:
    if args.trace is not None:
        return traces.read_trace(args.trace)
    return None if args.markov is None else traces.parse_markov(args.markov, args.seed)


def _refuse(args: argparse.Namespace, options: Iterable[str], why: str) -> None:
    for option in options:
        if getattr(args, option) is not None:
            raise ThinwireError(f"--{option} cannot be given here: {why}.")


def _namespaces(record: state.Record) -> list[str]:
    return [namespaces.host_namespace(record.name, host) for host in range(len(record.hosts))]


def _host(cluster: Cluster, host: int) -> str:
    spec = cluster.specs[host]
    loss = f", {spec.loss:.3g} lost" if spec.loss else ""
    return f"h{host} {cluster.addresses[host]} ({spec.cpu:g} core, {spec.mbps:g} Mbps{loss})"
