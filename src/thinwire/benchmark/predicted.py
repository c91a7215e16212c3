"""The benchmark where hosts cannot be emulated: one measured forward pass, everything else by the latency model."""

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.profiles import finish, folder_name
from thinwire.benchmark.recording import record, truly_named
from thinwire.benchmark.rows import TimedPass, facts_of, row, with_speedups
from thinwire.engine import Engine
from thinwire.planning.latency import Machine, predict_latency
from thinwire.strategies import Single, Strategy
from thinwire.weights.load import LoadedModel, for_tokens
from thinwire.wire.spmd import put

_REPEATS = 3
_NOT_MEASURED = {
    "spread_s": None,
    "busy_s": None,
    "cpu_s": None,
    "stolen_s": None,
    "encode_s": 0.0,
    "decode_s": 0.0,
    "bytes_interface": None,
    "repeats": 0,
    "disturbance": "",
    "same_output": None,
}


def predict(
    plan: Plan, model: LoadedModel, progress: Callable[[str], None] = lambda what: None
) -> list[dict[str, Any]]:
    """Rows as ``measure`` makes them, their times predicted for devices as fast as this whole machine.

    The single device is timed here; a strategy's FLOPs take as long as the single device's would.
    """
    with truly_named() if plan.profile else contextlib.nullcontext():
        return [one for tokens in plan.tokens for one in _at_length(plan, model, tokens, progress)]


def _at_length(plan: Plan, model: LoadedModel, tokens: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    sized = for_tokens(model, tokens)
    progress(f"{tokens} tokens: the single device")
    alone = Engine(sized, Single(), 1, dtype=plan.dtype)
    machine = Machine(sum(alone.flops(tokens)) / _seconds(alone, sized, tokens))
    engines = [alone if isinstance(s, Single) else _virtual(plan, s, alone) for s in plan.strategies]
    found = [[_row(plan, engine, tokens, mbps, machine) for engine in engines] for mbps in plan.mbps]
    if plan.profile:
        for one, engine in zip(found[0], engines, strict=True):
            progress(f"{tokens} tokens: {one['strategy']}, under the profiler")
            one["profile"] = _profile(plan, engine, sized, tokens)
    return [one for at_rate in found for one in with_speedups(at_rate)]


def _virtual(plan: Plan, strategy: Strategy, alone: Engine) -> Engine:
    codecs = codecs_of(strategy, alone.model, plan.codebooks.get(strategy.spec()))
    return Engine(alone.model, strategy, plan.hosts, codecs, plan.split, plan.dtype, [alone])


def _profile(plan: Plan, engine: Engine, model: LoadedModel, tokens: int) -> dict[str, Any]:
    """Where a pass of all devices in one program spends its time, on this machine and without links."""
    folder = Path(plan.profile) / folder_name(engine.strategy.spec(), tokens)
    engine.prepare(tokens, "last")
    inputs_T = put(inputs_of(model, tokens), engine.devices, False)
    jax.block_until_ready(engine.dispatch(inputs_T))
    record(engine, inputs_T, folder, 0)
    return {"folder": str(folder), **finish(folder, 1)}


def _seconds(engine: Engine, model: LoadedModel, tokens: int) -> float:
    engine.prepare(tokens, "last")
    inputs_T = put(inputs_of(model, tokens), 1, False)
    seconds = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        jax.block_until_ready(engine.dispatch(inputs_T))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def _row(plan: Plan, engine: Engine, tokens: int, mbps: float, machine: Machine) -> dict[str, Any]:
    flops, rate = engine.flops(tokens), machine.flops_per_second
    total = predict_latency(flops, engine.traffic(tokens), machine, mbps)
    return row(
        plan, facts_of(engine, tokens), tokens, mbps, [TimedPass(total, (rate,) * engine.devices)], max(flops) / rate,
        machine.message_latency_s, **_NOT_MEASURED, measured=False, emulated=False,
    )  # fmt: skip
