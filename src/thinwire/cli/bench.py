"""`thinwire bench`: strategies side by side on emulated hosts and links, measured, with the floor beside them."""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from thinwire.benchmark.disturbances import DISTURBANCES
from thinwire.benchmark.floor import DESCRIPTION
from thinwire.benchmark.measure import measure
from thinwire.benchmark.peers import parse_peers
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.predicted import predict
from thinwire.cli import console, inputs, trained
from thinwire.cluster.shaping import require_loss_tool
from thinwire.cluster.specs import check_rate, parse_hosts, too_much_cpu
from thinwire.cluster.tools import missing_for_emulation
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.number_lists import parse_counts, parse_numbers
from thinwire.planning.latency import DESCRIPTION as LATENCY_MODEL
from thinwire.reports.bench import (
    bench_markdown,
    bench_table,
    by_strategy,
    parts_plot,
    peer_remarks,
    what,
    write_bench_html,
)
from thinwire.reports.files import check_folder
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import latency_plot, save_figure
from thinwire.reports.profile import profile_table, profile_title
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, Strategy, parse_strategies
from thinwire.strategies.balance import Balanced, shares_of
from thinwire.training.artefact import CODEBOOKS, Artefact, serves
from thinwire.training.calibrate import codebook_path
from thinwire.weights.load import LoadedModel, for_tokens

NAME = "bench"
HELP = "time strategies on emulated hosts and thin links, beside the single host and the floor"
EXAMPLES = """\
sudo thinwire bench --model shape:vit-base --tokens 1024 --hosts 4 --cpu 0.5 --mbps 10,100
sudo thinwire bench --hosts 2 --cpu 1 --mbps 10,50 --dtype bfloat16 --html bench.html --json bench.json
thinwire bench --predict --strategies single,sequence:float32,sequence:vq:groups=1
"""
DEFAULT_STRATEGIES = "single,sequence:float32,sequence:int8,sequence:vq:groups=1,sequence:vq:groups=32,tensor:float32"
MEASURED = "Measured: real processes on emulated hosts of this machine, each with its own address, CPU share and link."
PROFILED = (
    "Profiled passes are slower than timed ones. most, least: seconds of the host that spent most in a scope, and of "
    "the one that spent least; what a host spends more on the exchange than another it waits. Each folder is a log "
    "folder for xprof; trace.json.gz in it is for ui.perfetto.dev, all hosts side by side."
)
PROFILED_TOGETHER = (
    "Profiled: all devices' work in one program on this machine, without links. Each folder is a log folder for xprof; "
    "trace.json.gz in it is for ui.perfetto.dev."
)
PREDICTED = "Predicted, not measured: hosts were not emulated. "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    trained.add_trained(parser)
    inputs.add_dtype(parser)
    inputs.add_kernels(parser)
    parser.add_argument(
        "--strategies", metavar="A,B,...", help=f"default: {DEFAULT_STRATEGIES}; with --trained its own and exact ones"
    )
    parser.add_argument("--hosts", type=int, default=4, metavar="N", help="emulated hosts (default: 4)")
    parser.add_argument("--cpu", default="0.5", metavar="C,...", help="cores of each host, one for all (default: 0.5)")
    parser.add_argument("--mbps", default="10,100", metavar="A,B,...", help="rates of the links, in turn (10,100)")
    parser.add_argument("--tokens", default="1024", metavar="A,B,...", help="lengths, in turn (default: 1024)")
    parser.add_argument(
        "--split", type=inputs.parse_split, metavar="A/B/...",
        help="each host's share of the tokens, or balanced: by its cores and what it has to look back at (even)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="of every strategy in turn (default: 5)")
    parser.add_argument(
        "--disturb", metavar="A,B", default="",
        help="measure again while: drop (all links fall to a tenth in mid-run), lose (every host loses a twentieth of "
        "the packets that arrive), slow (the last host at half its share)",
    )  # fmt: skip
    parser.add_argument("--loss", default="0", metavar="P", help="share of packets that every host loses (default: 0)")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=COMMAND",
        help="another program beside them on host 0, in turn with them (see docs/performance.md); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--profile", metavar="DIR",
        help="one more pass of each strategy under JAX's profiler: traces for xprof and Perfetto, seconds by scope",
    )  # fmt: skip
    parser.add_argument("--predict", action="store_true", help="predict instead of measuring; needs no root")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--html", metavar="FILE", help="write a report with plots, in one file")
    parser.add_argument("--plot", metavar="FILE", help="draw latency against bandwidth, or its parts for one rate")
    inputs.add_docs(parser, "bench")


def run(args: argparse.Namespace) -> int:
    """Measure, show a table, write the files."""
    document = measured(args)
    rows = document["rows"]
    console.show(bench_table(rows, f"{document['model']}: {what(document)}", console.width()))
    console.remark(document["note"])
    for line in peer_remarks(rows):
        console.remark(line)
    if args.profile is not None:
        show_profiles(document)
    if args.html is not None:
        write_bench_html(args.html, document)
        console.say(f"report: {args.html}")
    if args.plot is not None:
        save_figure(plot(document, rows[0]["tokens"]), args.plot)
        if len({row["tokens"] for row in rows}) > 1:
            console.remark(f"{args.plot} shows {rows[0]['tokens']:,} tokens; --html draws every length.")
    if args.docs is not None:
        write_section(args.docs, args.section, bench_markdown(document))
    return 0


def plot(document: dict[str, Any], tokens: int) -> Figure:
    """Latency against bandwidth for one length, or its parts where there is one bandwidth."""
    rows = [row for row in document["rows"] if row["tokens"] == tokens]
    if len({row["mbps"] for row in rows}) == 1:
        return parts_plot(rows)
    how = "measured" if document["measured"] else "predicted"
    where = f"{tokens:,} tokens, {document['hosts']} hosts; below the thick line is faster than one device"
    return latency_plot(by_strategy(rows, tokens, how), how=how, subtitle=where)


def show_profiles(document: dict[str, Any]) -> None:
    """Seconds by named scope of each profiled pass, and where its files are."""
    for row in document["rows"]:
        if "profile" in row:
            console.say(profile_title(row))
            console.show(profile_table(row))
    console.remark(PROFILED if document["measured"] else PROFILED_TOGETHER)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """The rows, and everything that a reader needs to make them again."""
    artefact = trained.read(args.trained)
    chosen = trained.strategies(artefact, DEFAULT_STRATEGIES) if args.strategies is None else args.strategies
    strategies = parse_strategies(chosen)
    strategies = list(dict.fromkeys(strategies))
    inputs.check_outputs(args.json, args.html, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    if args.profile is not None:
        check_folder(args.profile)
    peers = parse_peers(args.peer)
    specs = parse_hosts(args.hosts, args.cpu, "100", args.loss)
    disturbances = tuple(dict.fromkeys(name for name in args.disturb.split(",") if name))
    for name in disturbances:
        if name not in DISTURBANCES:
            raise ThinwireError(f"--disturb {name} is unknown; there are {', '.join(DISTURBANCES)}.")
    rates = tuple(dict.fromkeys(parse_numbers("--mbps", args.mbps)))
    for rate in rates:
        check_rate(rate)
    lengths = parse_counts("--tokens", args.tokens)
    for tokens in lengths:
        inputs.check_amount(tokens, 1)
        inputs.check_devices(args.hosts, args.split, tokens)
    if args.repeats < 1:
        raise ThinwireError(f"--repeats is {args.repeats}; one repeat is the least.")
    missing = "predictions were asked for" if args.predict else missing_for_emulation()
    if "lose" in disturbances and missing is None:
        require_loss_tool()
    if missing is not None and (disturbances or any(spec.loss for spec in specs)):
        option = "--disturb" if disturbances else "--loss"
        raise ThinwireError(f"{option} is measured on emulated hosts, not predicted ({missing}); leave it out.")
    if missing is not None and peers:
        raise ThinwireError(f"--peer runs programs on an emulated host, and there is none ({missing}); leave it out.")
    if missing is None and (warning := too_much_cpu(specs)):
        console.remark(f"warning: {warning}")
    model = trained.open_model(args.model, artefact)
    check(model, strategies, lengths, args)
    own = own_codebooks(args.trained, artefact, strategies)
    plan = Plan(
        args.model,
        tuple(strategies),
        cpu=tuple(spec.cpu for spec in specs),
        mbps=rates,
        tokens=lengths,
        dtype=args.dtype,
        repeats=args.repeats,
        split=Balanced(tuple(spec.cpu for spec in specs)) if isinstance(args.split, Balanced) else args.split,
        codebooks=own
        | codebooks(model, [strategy for strategy in strategies if strategy.spec() not in own], args.hosts),
        trained="" if args.trained is None else str(Path(args.trained).absolute()),
        disturbances=disturbances,
        loss=tuple(spec.loss for spec in specs),
        profile=args.profile or "",
        peers=peers,
        kernels=args.kernels,
    )
    document: dict[str, Any] = {
        "model": model.name,
        "model_sha256": model.sha256,
        "hosts": len(specs),
        "cpu": list(plan.cpu),
        "dtype": args.dtype,
        "kernels": args.kernels,
        "repeats": args.repeats,
        "split": str(args.split) if isinstance(args.split, Balanced) else args.split,
        "loss": list(plan.loss),
        "measured": missing is None,
        "note": MEASURED if missing is None else f"{PREDICTED}({missing}.) {LATENCY_MODEL}.",
        "floor": DESCRIPTION,
        **trained.facts(artefact),
        **inputs.environment(args.command_line),
    }

    saved: list[int] = []

    def save(rows: list[dict[str, Any]]) -> None:  # so that what breaks off later does not lose them
        if args.json is not None:
            write_json(args.json, {**document, "rows": rows})
            saved.append(len(rows))

    try:
        with console.progress("benchmark", 1) as bar:
            rows = measure(plan, bar.describe, save) if missing is None else predict(plan, model, bar.describe)
            bar.update(1)
    except BaseException:
        if saved:
            console.remark(f"{args.json} has the {max(saved)} rows that were measured until then.")
        raise
    save(rows)
    return {**document, "rows": rows}


def check(model: LoadedModel, strategies: list[Strategy], lengths: tuple[int, ...], args: argparse.Namespace) -> None:
    """Says what cannot be split or coded before a host is started."""
    for tokens in lengths:
        dims = FAMILIES[model.family].dims(for_tokens(model, tokens).config)
        if tokens > dims.context:
            raise ThinwireError(f"--tokens {tokens} is more than the {dims.context} that {model.name} reads.")
        for strategy in strategies:
            strategy.check(dims)
            hosts = 1 if isinstance(strategy, Single) else args.hosts
            strategy.layout(dims, tokens, hosts, shares_of(args.split, strategy, dims, tokens, hosts))


def codebooks(model: LoadedModel, strategies: list[Strategy], hosts: int) -> dict[str, str]:
    """Where learnt codebooks of a real model are; models of random weights have random ones."""
    if model.tokenizer is None:
        return {}
    learning = [strategy for strategy in strategies if strategy.codec.learns]
    inputs.codecs_for(model, learning, hosts, None, 0)
    return {strategy.spec(): str(codebook_path(model, strategy, hosts)) for strategy in learning}


def own_codebooks(folder: str | None, artefact: Artefact | None, strategies: list[Strategy]) -> dict[str, str]:
    """Where codebooks are that were trained together with the weights."""
    if folder is None or artefact is None:
        return {}
    place = str((Path(folder) / CODEBOOKS).absolute())
    return {strategy.spec(): place for strategy in strategies if serves(artefact, strategy)}
