"""The papers' setting in our latency model: speedup over one device by bandwidth, beside the figures that they give.

    python -m eval.paper_tables
    python -m eval.paper_tables --links each --json paper.json

Four devices of 1.8 TFLOP/s (about what a GTX 1660 Ti gives a Transformer, as the papers' ratios imply), 1024 tokens,
the 12 layers of ViT-Base in float32, no latency of messages, nothing overlapped. Everything is predicted from FLOPs
and bytes; nothing is run. With --links once a payload takes the wire once for all receivers, as the papers' ratios
imply; with --links each it is sent to each receiver, as TCP does and as thinwire counts.
"""

import argparse
import shlex
import sys
from typing import Any

from rich import box
from rich.table import Table

from thinwire.cli import console, inputs, main
from thinwire.models.families import FAMILIES
from thinwire.planning.latency import Machine, predict_latency
from thinwire.reports.json_file import write_json
from thinwire.strategies import Single, parse_strategies
from thinwire.strategies.base import Setting, Traffic
from thinwire.weights.shapes import SHAPES

MODEL, DEVICES, TOKENS = "vit-base", 4, 1024
MACHINE = Machine(flops_per_second=1.8e12, message_latency_s=0.0)
MBPS = (10, 20, 50, 100, 200, 500)
STRATEGIES = (
    "single",
    "sequence:vq:groups=1:site=x",
    "sequence:vq:groups=16:site=x",
    "sequence:vq:groups=32:site=x",
    "sequence:vq:groups=1:site=kv",
    "sequence:vq:groups=32:site=kv",
    "sequence:int8",
    "sequence:float32",
    "tensor:float32",
)
# From the abstracts; all else that is known of the papers' tables is derived and not printed as theirs.
PUBLISHED = "ASTRA's abstract: up to 2.64x over one device, at bandwidths as low as 10 Mbps"


def run(arguments: list[str]) -> int:
    """Predicts, shows a table, writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper_tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--links", choices=("once", "each"), default="once", help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json)
    rows = predict(once=args.links == "once")
    table = Table(
        title=f"speedup over one device, predicted: {MODEL} shape, {DEVICES} devices, {TOKENS} tokens",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("strategy", overflow="fold")
    for mbps in MBPS:
        table.add_column(f"{mbps} Mbps", justify="right")
    for row in rows:
        table.add_row(row["strategy"], *(f"{row['speedup'][mbps]:.3g}" for mbps in MBPS))
    console.show(table)
    console.say(PUBLISHED)
    if args.json is not None:
        command = shlex.join(["python", "-m", "eval.paper_tables", *arguments])
        write_json(args.json, {**inputs.environment(command), "published": PUBLISHED, "rows": rows})
    return 0


def predict(once: bool) -> list[dict[str, Any]]:
    """A row for each strategy: predicted seconds and speedup over the single device, by bandwidth."""
    dims = FAMILIES[SHAPES[MODEL].family].dims(SHAPES[MODEL])
    rows: list[dict[str, Any]] = []
    for strategy in parse_strategies(",".join(STRATEGIES)):
        devices = 1 if isinstance(strategy, Single) else DEVICES
        setting = Setting(dims, strategy.layout(dims, TOKENS, devices, None))
        flops = [dims.layers * one for one in strategy.flops(setting)]
        layer = strategy.traffic(setting)
        share = max(1, devices - 1) if once else 1
        sent = tuple(dims.layers * count // share for count in layer.bytes_by_device)
        traffic = Traffic(sent, layer.messages_by_device, dims.layers * layer.rounds)
        seconds = {mbps: predict_latency(flops, traffic, MACHINE, mbps) for mbps in MBPS}
        single = rows[0]["seconds"] if rows else seconds
        speedup = {mbps: single[mbps] / seconds[mbps] for mbps in MBPS}
        rows.append({"strategy": strategy.spec(), "seconds": seconds, "speedup": speedup})
    return rows


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
