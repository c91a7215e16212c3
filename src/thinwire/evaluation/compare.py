"""Strategies side by side on the same tokens: quality and bytes measured, latency predicted."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from thinwire.engine import Codecs, Engine, cast
from thinwire.evaluation.metrics import Distance, distance, summarise
from thinwire.planning.latency import DESCRIPTION, Machine, predict_latency
from thinwire.strategies import Single, Strategy
from thinwire.strategies.balance import Split
from thinwire.strategies.parse import preset_of
from thinwire.weights.load import LoadedModel

BANDWIDTHS_MBPS: tuple[int, ...] = (10, 20, 50, 100, 200, 500, 1000)

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The rows, and what the latency model assumed."""

    rows: list[dict[str, Any]]
    latency_model: dict[str, Any]


def compare(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    devices: int,
    windows_WT: Int[np.ndarray, "W T"],
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    dtype: str = "float32",
    progress: Progress = lambda _: None,
) -> Comparison:
    """Runs every strategy on virtual devices over the same windows.

    Args:
        strategies: the single device is run as the reference whether it is among them or not.
        devices: of every strategy but the single device.
        windows_WT: token ids; perplexity is over the T−1 predicted tokens of each.
        codecs_of: the learnt arrays that a strategy needs, by site.
        progress: told what runs next: 'single', then each strategy once a window.

    Returns:
        A row for each strategy, in order.
    """
    tokens = windows_WT.shape[1]
    model = dataclasses.replace(model, params=jax.device_put(cast(model.params, dtype)))  # once for all engines
    reference = Engine(model, Single(), 1, dtype=dtype)
    engines: list[Engine] = []
    for strategy in strategies:  # all of them first: what is missing or cannot be split is said before anything runs
        engine = make_engine(model, strategy, devices, codecs_of, split, dtype, [reference, *engines])
        engine.layout(tokens)
        engines.append(engine)
    progress("single")
    reference.time_to_first_token(windows_WT[0])  # compiles
    seconds = _seconds(lambda: reference.time_to_first_token(windows_WT[0]))
    machine = Machine(flops_per_second=reference.flops(tokens)[0] / seconds)
    distances: list[list[Distance]] = [[] for _ in engines]
    spent: list[float] = [float("inf")] * len(engines)
    for ids_T in windows_WT:
        single_TV = reference.logits(ids_T)
        for i, engine in enumerate(engines):
            progress(engine.strategy.spec())
            if not isinstance(engine.strategy, Single):
                engine.prepare(tokens)  # compiling is not computing
            start = time.perf_counter()
            logits_TV = single_TV if isinstance(engine.strategy, Single) else engine.logits(ids_T)
            spent[i] = min(spent[i], time.perf_counter() - start)
            distances[i].append(distance(logits_TV, single_TV, ids_T))
    baseline = _latency_s(reference, tokens, machine)
    rows = [
        {
            **identity(engine, tokens),
            **dataclasses.asdict(summarise(found)),
            "windows": len(windows_WT),
            "emulated_compute_s": seconds if isinstance(engine.strategy, Single) else wall,
            **_predictions(engine, tokens, machine, baseline),
        }
        for engine, found, wall in zip(engines, distances, spent, strict=True)
    ]
    return Comparison(rows, {"description": DESCRIPTION, **dataclasses.asdict(machine)})


def make_engine(
    model: LoadedModel,
    strategy: Strategy,
    devices: int,
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    dtype: str = "float32",
    sharing: Sequence[Engine] = (),
) -> Engine:
    """The engine of a strategy; the single device is one device, however many the others have."""
    if isinstance(strategy, Single):
        return Engine(model, strategy, 1, dtype=dtype, sharing=sharing)
    return Engine(model, strategy, devices, codecs_of(strategy), split, dtype, sharing)


def identity(engine: Engine, tokens: int) -> dict[str, Any]:
    """What a row of a table is of, and what it sends."""
    traffic = engine.traffic(tokens)
    single = isinstance(engine.strategy, Single)
    return {
        "strategy": engine.strategy.spec(),
        "codec": "-" if single else engine.strategy.codec.spec(),
        "preset": None if single else preset_of(engine.strategy),
        "devices": engine.devices,
        "tokens": tokens,
        "bits_per_token_per_layer": 0.0 if single else engine.strategy.bits_per_token(engine.dims),
        "bytes_sent_per_device": max(traffic.bytes_by_device),
        "messages_per_device": max(traffic.messages_by_device),
    }


def _latency_s(engine: Engine, tokens: int, machine: Machine) -> dict[int, float]:
    traffic, flops = engine.traffic(tokens), engine.flops(tokens)
    return {mbps: predict_latency(flops, traffic, machine, mbps) for mbps in BANDWIDTHS_MBPS}


def _predictions(engine: Engine, tokens: int, machine: Machine, single_s: dict[int, float]) -> dict[str, Any]:
    latency = _latency_s(engine, tokens, machine)
    return {
        "predicted_latency_s": {str(mbps): s for mbps, s in latency.items()},
        "predicted_speedup": {str(mbps): single_s[mbps] / s for mbps, s in latency.items()},
    }


def _seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
