"""The benchmark where hosts cannot be emulated: one measured forward pass, everything else by the latency model."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.rows import facts_of, row, with_speedups
from thinwire.engine import Engine
from thinwire.planning.latency import Machine, predict_latency
from thinwire.strategies import Single, Strategy
from thinwire.weights.load import LoadedModel, for_tokens
from thinwire.wire.spmd import put

_REPEATS = 3
_NOT_MEASURED = {
    "spread_s": None,
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
    rows = []
    for tokens in plan.tokens:
        sized = for_tokens(model, tokens)
        progress(f"{tokens} tokens: the single device")
        alone = Engine(sized, Single(), 1, dtype=plan.dtype)
        machine = Machine(sum(alone.flops(tokens)) / _seconds(alone, sized, tokens))
        engines = [alone if isinstance(s, Single) else _virtual(plan, s, alone) for s in plan.strategies]
        for mbps in plan.mbps:
            rows += with_speedups([_row(plan, engine, tokens, mbps, machine) for engine in engines])
    return rows


def _virtual(plan: Plan, strategy: Strategy, alone: Engine) -> Engine:
    codecs = codecs_of(strategy, alone.model, plan.codebooks.get(strategy.spec()))
    return Engine(alone.model, strategy, plan.hosts, codecs, plan.split, plan.dtype, [alone])


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
        plan, facts_of(engine, tokens), tokens, mbps, total, max(flops) / rate, [rate] * engine.devices,
        machine.message_latency_s, **_NOT_MEASURED, measured=False, emulated=False,
    )  # fmt: skip
