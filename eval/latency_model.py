"""The latency model against measured passes: profiles of emulated hosts, passes on them, one beside the other.

    sudo python -m eval.latency_model --json latency.json --plot latency.png
    sudo python -m eval.latency_model --hosts 2 --tokens 512 --json latency.json --resume
    sudo python -m eval.latency_model --rows bench.json        profiles hosts like those of `thinwire bench --json`
    python -m eval.latency_model --rows bench.json --profiles latency.json

Passes are measured as `thinwire bench` does. In each of its turns the hosts also time pieces of one layer and exchanges
of bytes, which is all that predictions come from: in the same turns, because a shared machine is a third faster or
slower from one minute to the next. The cores of this machine are shared out evenly, so that two hosts on two cores have
one each. --resume keeps what the file of --json has.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinwire.benchmark.check import checked, errors_of
from thinwire.benchmark.measure import measure
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.profiled import HostProfiler, profile_hosts
from thinwire.cli import console, inputs, main, resume
from thinwire.cluster.specs import check_rate, parse_hosts, usable_cores
from thinwire.cluster.tools import require_emulation
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.number_lists import parse_counts, parse_numbers
from thinwire.planning.profile import DESCRIPTION, Profile, from_plain, to_plain
from thinwire.reports.json_file import write_json
from thinwire.reports.plots import save_figure
from thinwire.reports.prediction import GROUPS, prediction_markdown, prediction_plot, prediction_table, summary
from thinwire.reports.sections import write_section
from thinwire.strategies import Single, Strategy, parse_strategies
from thinwire.strategies.balance import Balanced
from thinwire.weights.load import LoadedModel, for_tokens

MODELS = ("shape:vit-base:layers=3", "shape:smollm2-135m:layers=3")
STRATEGIES = ("single", "sequence:vq:groups=1", "sequence:vq:groups=32:size=64", "sequence:int8", "tensor:int8")
# What makes two runs of a cell the same.
CELL = ("model", "hosts", "tokens", "cpu", "mbps", "strategies", "dtype")
JOB = "eval.latency_model"


def run(arguments: list[str]) -> int:
    """Measures, shows a table, writes the files."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.latency_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(arguments)
    inputs.check_outputs(args.json, args.plot, args.docs)
    inputs.check_section(args.docs, args.section)
    if args.profiles is not None and args.rows is None:
        raise ThinwireError("--profiles is for the rows that --rows names; leave it out to profile these hosts.")
    environment = inputs.environment(resume.command_of(JOB, arguments))
    document: dict[str, Any] = {**environment, "model_of_latency": DESCRIPTION}
    cells: list[dict[str, Any]] = []
    wanted = of_file(args) if args.rows is not None else grid(args)
    for cell in wanted:
        cells.append(cell)
        if args.json is not None:
            write_json(args.json, {**document, **results(cells)})
    document |= results(cells)
    console.show(prediction_table(document["rows"], document["what"]))
    console.say(summary(document["errors"]))
    if args.json is not None:
        write_json(args.json, document)
    if args.plot is not None:
        save_figure(prediction_plot(document["rows"], document["errors"]), args.plot)
    if args.docs is not None:
        write_section(args.docs, args.section, prediction_markdown(document))
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--models", default=",".join(MODELS), metavar="A,B,...", help="default: %(default)s")
    inputs.add_dtype(parser)
    parser.add_argument("--hosts", default="2,4", metavar="A,B,...", help="numbers of hosts (default: %(default)s)")
    parser.add_argument("--tokens", default="256,512,1024", metavar="A,B,...", help="lengths (default: %(default)s)")
    parser.add_argument("--mbps", default="10,100", metavar="A,B,...", help="rates of the links (default: %(default)s)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="A,B,...", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="of every strategy in turn (default: 3)")
    parser.add_argument(
        "--rows", metavar="FILE", help="check the measured rows of `thinwire bench --json FILE` instead"
    )
    parser.add_argument(
        "--profiles", metavar="FILE", help="with --rows: profiles of an earlier run, not of these hosts"
    )
    parser.add_argument("--json", metavar="FILE", help="write profiles and rows, after every length")
    resume.add_resume(parser)
    parser.add_argument("--plot", metavar="FILE", help="draw predicted against measured seconds as PNG or SVG")
    inputs.add_docs(parser, "latency-model")


def grid(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every cell of the grid with its profiles and measured rows, from the file or measured now."""
    strategies = list(dict.fromkeys(parse_strategies(args.strategies)))
    counts, lengths = parse_counts("--hosts", args.hosts), parse_counts("--tokens", args.tokens)
    rates = tuple(parse_numbers("--mbps", args.mbps))
    for rate in rates:
        check_rate(rate)
    if args.repeats < 1:
        raise ThinwireError(f"--repeats is {args.repeats}; one repeat is the least.")
    names = list(dict.fromkeys(name for name in args.models.split(",") if name))
    if not names:
        raise ThinwireError("--models is empty; name models such as shape:vit-base.")
    done = read_cells(args.json) if args.resume else []
    models = {name: inputs.open_model(name) for name in names}
    plans = []
    for name, model in models.items():
        for hosts in counts:
            cpu = f"{min(1.0, usable_cores() / hosts):g}"
            specs = parse_hosts(hosts, cpu, "100", "0")
            for tokens in lengths:
                check(model, strategies, hosts, tokens)
            shares = tuple(spec.cpu for spec in specs)
            plans.append(Plan(name, tuple(strategies), shares, rates, tuple(lengths), args.dtype, args.repeats))
    if not all(find(done, plan, tokens) for plan in plans for tokens in plan.tokens):
        require_emulation()
    with console.progress("latency model", len(plans)) as bar:
        for plan in plans:
            missing = tuple(tokens for tokens in plan.tokens if find(done, plan, tokens) is None)
            tell = lambda what, plan=plan: bar.describe(f"{plan.model}, {plan.hosts} hosts, {what}")
            found = measured(dataclasses.replace(plan, tokens=missing), models[plan.model], tell)
            yield from filter(None, (find([*done, *found], plan, tokens) for tokens in plan.tokens))
            bar.advance()


def measured(plan: Plan, model: LoadedModel, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """The cells of a plan: in every turn all hosts time pieces and exchanges, then all strategies run."""
    if not plan.tokens:
        return []
    profiler = HostProfiler(plan)
    rows = measure(plan, progress, beside=profiler)
    of = lambda tokens: [row for row in rows if row["tokens"] == tokens]
    profiles = lambda tokens: {mbps: profiler.profiles(tokens, mbps) for mbps in plan.mbps}
    return [cell_of(plan, tokens, model, profiles(tokens), of(tokens)) for tokens in plan.tokens]


def cell_of(
    plan: Plan,
    tokens: int,
    model: LoadedModel,
    profiles: Mapping[float | int, Sequence[Profile]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The profiles and the measured rows with their predictions."""
    dims = FAMILIES[model.family].dims(model.config)
    split = None if isinstance(plan.split, Balanced) else plan.split
    found = [{"model": plan.model, **row} for row in checked(rows, profiles, dims, split)]
    by_rate = [{"mbps": mbps, "hosts": [to_plain(one) for one in of]} for mbps, of in profiles.items()]
    return {**facts(plan, tokens), "repeats": plan.repeats, "profiles": by_rate, "rows": found}


def facts(plan: Plan, tokens: int) -> dict[str, Any]:
    """What a cell is of, as JSON has it."""
    specs = [strategy.spec() for strategy in plan.strategies]
    values = (plan.model, plan.hosts, tokens, list(plan.cpu), list(plan.mbps), specs, plan.dtype)
    return dict(zip(CELL, values, strict=True))


def find(cells: Sequence[dict[str, Any]], plan: Plan, tokens: int) -> dict[str, Any] | None:
    """The cell of this plan and length among those that were measured before."""
    wanted = facts(plan, tokens)
    return next((cell for cell in cells if all(cell[name] == wanted[name] for name in CELL)), None)


def of_file(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The one cell that the rows of a benchmark's file make, with profiles of such hosts."""
    bench = read_bench(args.rows)
    model = inputs.open_model(bench["model"])
    rows = bench["rows"]
    strategies = parse_strategies(",".join(dict.fromkeys(row["strategy"] for row in rows)))
    rates, lengths = dict.fromkeys(float(row["mbps"]) for row in rows), dict.fromkeys(row["tokens"] for row in rows)
    split = tuple(bench["split"]) if isinstance(bench.get("split"), list) else None
    plan = Plan(
        bench["model"], tuple(strategies), tuple(map(float, bench["cpu"])), tuple(rates), tuple(lengths),
        bench["dtype"], bench["repeats"], split,
    )  # fmt: skip
    if args.profiles is not None:
        profiles = fitting(args.profiles, plan)
    else:
        require_emulation()
        with console.progress("profiling", 1) as bar:
            profiles = profile_hosts(plan, progress=bar.describe)
            bar.advance()
    yield cell_of(plan, plan.tokens[0], model, profiles, rows)


def fitting(path: str, plan: Plan) -> dict[float, tuple[Profile, ...]]:
    """The profiles in a file of this job that are of such hosts and such a model, the last of them."""
    for cell in reversed(read_cells(path)):
        same = lambda name: str(name).partition(":layers=")[0]
        if (cell["cpu"], cell["dtype"], same(cell["model"])) == (list(plan.cpu), plan.dtype, same(plan.model)):
            of = {one["mbps"]: tuple(from_plain(host) for host in one["hosts"]) for one in cell["profiles"]}
            return {mbps: of[min(of, key=lambda at, mbps=mbps: abs(math.log(at / mbps)))] for mbps in plan.mbps}
    raise ThinwireError(f"{path} has no profiles of {plan.hosts} such hosts with {plan.model}; leave --profiles out.")


def read_bench(path: str) -> dict[str, Any]:
    """The document of ``thinwire bench --json``.

    Raises:
        ThinwireError: it cannot be read or is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        for name in ("model", "cpu", "dtype", "repeats", "rows"):
            found[name]
        if not (isinstance(found["rows"], list) and found["rows"]):
            raise KeyError("rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ThinwireError(f"{path} is no file of thinwire bench --json ({error!r}); make one anew.") from error
    return found


def read_cells(path: str | None) -> list[dict[str, Any]]:
    """The cells of an earlier run.

    Raises:
        ThinwireError: there is no file, or it is none of this job's.
    """

    def read(old: Mapping[str, Any]) -> list[dict[str, Any]]:
        for cell in old["cells"]:
            for name in (*CELL, "profiles", "rows"):
                cell[name]
        return old["cells"]

    return resume.read_earlier(path, JOB, read)


def results(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cells, their rows together (the single device's of one length once a rate), and the errors."""
    rows = [row for cell in cells for row in cell["rows"]]
    by = [
        {"of": f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}", **errors_of(of)}
        for name in GROUPS
        for value in dict.fromkeys(row[name] for row in rows)
        if len(of := [row for row in rows if row[name] == value]) < len(rows)
    ]
    models = ", ".join(dict.fromkeys(cell["model"] for cell in cells))
    hosts = " and ".join(
        f"{count} hosts of {share:g} core{'' if share == 1 else 's'}"
        for count, share in dict.fromkeys((cell["hosts"], cell["cpu"][0]) for cell in cells)
    )
    repeats = cells[0]["repeats"] if cells else 0
    what = f"{hosts}, emulated, {cells[0]['dtype']}, median of {repeats} interleaved repeats"
    return {"model": models, "what": what, "cells": list(cells), "rows": rows, "errors": errors_of(rows), "by": by}


def check(model: LoadedModel, strategies: Sequence[Strategy], hosts: int, tokens: int) -> None:
    """Says what cannot be split or coded before a host is started."""
    inputs.check_amount(tokens, 1)
    inputs.check_devices(hosts, None, tokens)
    dims = FAMILIES[model.family].dims(for_tokens(model, tokens).config)
    if tokens > dims.context:
        raise ThinwireError(f"--tokens {tokens} is more than the {dims.context} that {model.name} reads.")
    for strategy in strategies:
        strategy.check(dims)
        strategy.layout(dims, tokens, 1 if isinstance(strategy, Single) else hosts, None)


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
