"""CPU seconds of each device's own work in a pass, alone on this machine: what no link and no other host enters."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.engine import Engine
from thinwire.strategies import Strategy
from thinwire.strategies.balance import Split
from thinwire.strategies.single import Single
from thinwire.weights.load import LoadedModel, for_tokens


def local_rows(
    model: LoadedModel,
    strategy: Strategy,
    tokens: int,
    devices: Sequence[int],
    split: Split = None,
    dtype: str = "float32",
    repeats: int = 5,
    progress: Callable[[str], object] = lambda text: None,
) -> list[dict[str, Any]]:
    """Median CPU seconds of a pass of the single device and of every device of several, all in turns.

    A device's program is the one that it runs in company but for what it receives (``Engine.alone``); codebooks are
    random, of which every code takes as long as of learnt ones.

    Args:
        devices: numbers of devices, each of which splits the tokens.
        progress: told what is compiled next.
    """
    sized = for_tokens(model, tokens)
    inputs_T = jax.device_put(inputs_of(sized, tokens))
    programs: dict[tuple[int, int], Callable[[], Any]] = {}
    rows = []
    for count in dict.fromkeys((1, *devices)):
        one = Single() if count == 1 else strategy
        engine = Engine(
            sized, one, count, codecs_of(one, sized, None), None if count == 1 else split, dtype, unrolled=True
        )
        for device, own in enumerate(engine.layout(tokens).lengths):
            progress(f"{one.spec()}, device {device} of {count}")
            program, arguments = engine.alone(tokens, device)
            programs[count, device] = lambda program=program, arguments=arguments: program(*arguments, inputs_T)
            rows.append({"strategy": one.spec(), "devices": count, "device": device, "tokens": own})
    seconds: dict[tuple[int, int], list[float]] = {key: [] for key in programs}
    for turn in range(repeats + 1):  # the first one warms up
        for key, run in programs.items():
            begun = time.process_time()
            jax.block_until_ready(run())
            if turn:
                seconds[key].append(time.process_time() - begun)
    single_s = statistics.median(seconds[1, 0])
    for row in rows:
        row["cpu_s"] = statistics.median(seconds[row["devices"], row["device"]])
        row["single_over_this"] = single_s / row["cpu_s"]
    return rows
