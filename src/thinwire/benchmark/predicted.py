"""The benchmark where hosts cannot be emulated: one measured forward pass, everything else by the latency model."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from thinwire.benchmark.floor import floor_s, model_flops
from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.measure import Plan, with_speedups
from thinwire.engine import Engine
from thinwire.planning.latency import Machine, predict_latency
from thinwire.strategies import Single
from thinwire.weights.load import LoadedModel, for_tokens
from thinwire.wire.spmd import put

_REPEATS = 3


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
        for mbps in plan.mbps:
            rows += with_speedups([_row(plan, strategy, alone, tokens, mbps, machine) for strategy in plan.strategies])
    return rows


def _seconds(engine: Engine, model: LoadedModel, tokens: int) -> float:
    engine.prepare(tokens, "last")
    inputs_T = put(inputs_of(model, tokens), 1, False)
    seconds = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        jax.block_until_ready(engine.dispatch(inputs_T))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def _row(plan: Plan, strategy, alone: Engine, tokens: int, mbps: float, machine: Machine) -> dict[str, Any]:
    single = isinstance(strategy, Single)
    engine = alone
    if not single:
        codecs = codecs_of(strategy, alone.model, plan.codebooks.get(strategy.spec()))
        engine = Engine(alone.model, strategy, plan.hosts, codecs, plan.split, plan.dtype, [alone])
    traffic, flops = engine.traffic(tokens), engine.flops(tokens)
    total = predict_latency(flops, traffic, machine, mbps)
    compute = max(flops) / machine.flops_per_second
    least = model_flops(strategy, engine.dims, tokens, engine.devices, engine.split)
    floor = floor_s(
        least, [machine.flops_per_second] * len(least), traffic.bytes_by_device, mbps, traffic.rounds,
        machine.message_latency_s,
    )  # fmt: skip
    return {
        "strategy": strategy.spec(),
        "codec": strategy.codec.spec() if strategy.sites_coded() else "",
        "bits_per_token_per_layer": strategy.bits_per_token(engine.dims),
        "hosts": engine.devices,
        "cpu": list(plan.cpu),
        "mbps": mbps,
        "tokens": tokens,
        "dtype": plan.dtype,
        "total_s": total,
        "spread_s": 0.0,
        "compute_s": compute,
        "wire_s": total - compute,
        "encode_s": 0.0,
        "decode_s": 0.0,
        "floor_s": floor,
        "ratio_to_floor": total / floor,
        "bytes_ledger": max(traffic.bytes_by_device),
        "bytes_interface": None,
        "messages": max(traffic.messages_by_device),
        "flops_per_second": machine.flops_per_second,
        "round_trip_s": machine.message_latency_s,
        "repeats": 0,
        "emulated": False,
        "measured": False,
    }
