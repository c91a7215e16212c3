"""How much of a thin link two hosts use that send to each other at once, by the size of the payload.

    sudo python -m eval.link_use --json link.json
    sudo python -m eval.link_use --mbps 10 --kilobytes 100,1000
    sudo python -m eval.link_use --way plain      gloo as it comes: its thread first, packets in one piece

Two emulated hosts of a core each gather payloads of this size from each other, one exchange after another and nothing
between them, as passes do or by gloo. Both directions are in use at the same time. The use of the link is the
payload's bits over the seconds of an exchange and the rate; headers and acknowledgements are what the counters of the
interface have above that.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinwire.cli import console, inputs, main
from thinwire.cluster.emulated import Cluster, HostSpec, emulated
from thinwire.cluster.rendezvous import join, leave
from thinwire.cluster.shaping import INTERFACE
from thinwire.cluster.specs import check_rate
from thinwire.cluster.tools import require_emulation
from thinwire.errors import ThinwireError
from thinwire.number_lists import parse_numbers
from thinwire.reports.json_file import write_json
from thinwire.reports.markdown import markdown_head, markdown_table
from thinwire.reports.sections import write_section
from thinwire.reports.terminal import plain_table
from thinwire.wire import collectives
from thinwire.wire.spmd import make_mesh, put, spmd
from thinwire.wire.streams import between, streaming

HOSTS, ROUNDS, LEAST_S = 2, 4, 0.2
WAYS = ("streams", "gloo", "plain")
COLUMNS = ("Mbps", "payload", "exchange", "± s", "wire alone", "link used", "with headers")


def run(arguments: list[str]) -> int:
    """Measures every rate and size, shows a table, writes the files; as the program on a host, exchanges."""
    if arguments[:1] == ["--on-host"]:
        return on_host(json.loads(arguments[1]))
    parser = argparse.ArgumentParser(
        prog="python -m eval.link_use", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mbps", default="10,50,100,500", metavar="A,B,...", help="rates (default: %(default)s)")
    parser.add_argument("--kilobytes", default="30,100,300,1000", metavar="A,B,...", help="payloads (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="of each (default: %(default)s)")
    parser.add_argument("--cpu", type=float, default=1.0, metavar="C", help="cores of each host (default: 1)")
    parser.add_argument("--way", choices=WAYS, default=WAYS[0],
                        help="connections of thinwire's own; gloo as thinwire has it, its thread behind, packets in "
                             "pieces; or gloo as it comes (%(default)s)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    inputs.add_docs(parser, "link-use")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.docs)
    inputs.check_section(args.docs, args.section)
    rates = parse_numbers("--mbps", args.mbps)
    sizes = [round(1000 * size) for size in parse_numbers("--kilobytes", args.kilobytes)]
    for rate in rates:
        check_rate(rate)
    if args.repeats < 1 or min(sizes) < 1:
        raise ThinwireError(
            f"--repeats {args.repeats} --kilobytes {args.kilobytes}: one repeat and one byte are the least."
        )
    require_emulation()
    rows = []
    with emulated([HostSpec(args.cpu, max(rates))] * HOSTS) as cluster:
        for rate in rates:
            cluster.set_rate(rate)
            for size in sizes:
                rows.append(measured(cluster, rate, size, args.repeats, args.way))
                console.remark(" ".join(cells(rows[-1])))
    model = f"{HOSTS} emulated hosts of {args.cpu:g} core"
    document = {"model": model, **inputs.environment(shlex.join(["python", "-m", "eval.link_use", *arguments]))}
    console.show(plain_table("How much of the link is used", COLUMNS, map(cells, rows), ()))
    if args.json is not None:
        write_json(args.json, {**document, "rows": rows})
    if args.docs is not None:
        table = markdown_table(COLUMNS, [cells(row) for row in rows])
        write_section(args.docs, args.section, markdown_head(document, "Payloads that both send at once") + table)
    return 0


def measured(cluster: Cluster, mbps: float | int, size: int, repeats: int, way: str) -> dict[str, Any]:
    """Seconds of an exchange of ``size`` bytes each way, and what the interfaces sent for it."""
    wire_s = 8e-6 * size / mbps
    rounds = max(ROUNDS, round(LEAST_S / wire_s))
    job = json.dumps({"size": size, "rounds": rounds, "repeats": repeats, "way": way})
    with cluster.start([sys.executable, "-m", "eval.link_use", "--on-host", job], stdout=subprocess.PIPE) as running:
        texts = [process.stdout.read() for process in running.processes if process.stdout]
        running.wait()
    found = [json.loads(text.splitlines()[-1]) for text in texts]  # gloo prints to standard output too
    seconds = [max(both) for both in zip(*(one["seconds"] for one in found), strict=True)]
    median = statistics.median(seconds)
    low, _, high = statistics.quantiles(seconds) if repeats > 1 else (median,) * 3
    sent = statistics.mean(one["sent"] for one in found) / (rounds * repeats)
    return {
        "mbps": mbps, "bytes": size, "seconds": median, "spread_s": (high - low) / 2, "wire_s": wire_s,
        "use": wire_s / median, "use_with_headers": 8e-6 * sent / mbps / median, "bytes_interface": sent,
        "rounds": rounds, "repeats": repeats, "hosts": HOSTS, "way": way, "emulated": True,
    }  # fmt: skip


def cells(row: Mapping[str, Any]) -> Sequence[str]:
    """A row as it is shown."""
    ms = lambda seconds: f"{1e3 * seconds:.2f} ms" if seconds < 0.01 else f"{1e3 * seconds:.1f} ms"
    percent = lambda part: f"{100 * part:.0f} %"
    return (
        f"{row['mbps']:g}", f"{row['bytes'] / 1000:,g} kB", ms(row["seconds"]), ms(row["spread_s"]),
        ms(row["wire_s"]), percent(row["use"]), percent(row["use_with_headers"]),
    )  # fmt: skip


def on_host(job: Mapping[str, Any]) -> int:
    """The program on each host: the exchanges of one size; prints their seconds and the bytes that left meanwhile."""
    join(step_behind=job["way"] != "plain")
    if job["way"] == "plain":
        collectives.PIECE_BYTES = job["size"]
    mesh = make_mesh(HOSTS)
    codes = put(np.zeros(job["size"], np.uint8), mesh, False)

    def local(codes):
        def step(codes, _):
            seen = collectives.all_gather({"codes": codes}, "exchange")["codes"]
            seen = lax.optimization_barrier(seen)  # all of it is wanted, though but one byte is used
            return codes + jnp.max(seen[:, :1]), None

        return lax.scan(step, codes, None, length=job["rounds"])[0][:1]

    program = jax.jit(spmd(local, mesh, (False,)))
    with streaming(between(HOSTS) if job["way"] == "streams" else None):
        jax.block_until_ready(program(codes))
    before, seconds = _sent(), []
    for _ in range(job["repeats"]):
        begun = time.perf_counter()
        jax.block_until_ready(program(codes))
        seconds.append((time.perf_counter() - begun) / job["rounds"])
    print(json.dumps({"seconds": seconds, "sent": _sent() - before}), flush=True)
    leave()
    return 0


def _sent() -> int:
    """Bytes that have left this host's interface."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    of = next(line for line in lines if line.strip().startswith(f"{INTERFACE}:"))
    return int(of.split(":")[1].split()[8])


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
