"""What exchanges cost beside local work: rounds of products, each followed by a gather of so many bytes."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from thinwire.wire import collectives
from thinwire.wire.silence import silence
from thinwire.wire.spmd import put, spmd

ROUNDS = 6
_REPEATS = 5
_SIDE, _PRODUCTS = 512, 8  # of square matrices between two gathers: a few ms of a core, like a small layer


def exchange_seconds(mesh: Mesh, size: int) -> dict[str, float]:
    """Seconds of a round of work with a gather of ``size`` bytes of each device, ``loud``, and without it, ``quiet``.

    Of this process; the difference between the slowest process's two is what the gather costs. Medians of passes of
    several rounds, run in turns. There is work between gathers because hosts that have a part of a core wait for each
    other when one's quota is used up.
    """

    def local(codes):
        def step(carry, _):
            x, codes = carry
            for _ in range(_PRODUCTS):
                x = x @ x * (1.0 / _SIDE)
            codes = codes + x[0, 0].astype(jnp.uint8)  # it waits for the products
            gathered = collectives.all_gather({"codes": codes}, "exchange")["codes"]
            return (x + gathered[-1, 0].astype(jnp.float32) * 1e-9, gathered[0]), None

        (x, codes), _ = lax.scan(step, (jnp.ones((_SIDE, _SIDE)), codes), None, length=ROUNDS)
        return x[0], codes[:1]

    # Replicated like inputs of an engine: each device sends bytes of its own all the same.
    codes = put(np.zeros(size, np.uint8), mesh, False)

    def compiled() -> Callable[[], object]:
        program = jax.jit(spmd(lambda codes: local(codes), mesh, (False,))).lower(codes).compile()
        return lambda: program(codes)

    loud = compiled()
    with silence():
        quiet = compiled()
    seconds: dict[str, list[float]] = {"loud": [], "quiet": []}
    for repeat in range(-1, _REPEATS):
        for name, run in (("loud", loud), ("quiet", quiet)):
            multihost_utils.sync_global_devices("begin")
            begun = time.perf_counter()
            jax.block_until_ready(run())
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) / ROUNDS for name, times in seconds.items()}
