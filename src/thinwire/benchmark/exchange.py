"""What exchanges cost beside local work: rounds of products, each followed by a gather of so many bytes, or a sum's."""

import itertools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from thinwire.codecs import Float
from thinwire.wire import collectives
from thinwire.wire.silence import silence
from thinwire.wire.spmd import put, spmd
from thinwire.wire.streams import between, streaming

KINDS = ("gather", "sum")
ROUNDS = 4
_SIDE, _PRODUCTS = 512, 8  # of square matrices between two exchanges: a few ms of a core, like a small layer


class Exchanges:
    """Compiled rounds of work with exchanges and without.

    There is work between exchanges because hosts that have a part of a core wait for each other when one's quota is
    used up.

    Args:
        mesh: of all hosts.
        sizes: bytes of a payload that a device sends to each other one.
    """

    def __init__(self, mesh: Mesh, sizes: Sequence[int]):
        self._programs: dict[str, Callable[[], object]] = {}
        for kind, size in itertools.product(KINDS, sizes):
            self._programs[f"{kind}/{size}/loud"] = _rounds(mesh, kind, size)
            with silence():
                self._programs[f"{kind}/{size}/quiet"] = _rounds(mesh, kind, size)

    def turn(self) -> dict[str, float]:
        """Seconds of a round on this host by ``kind/size/loud`` and ``kind/size/quiet``; on all hosts at once.

        What an exchange costs is the difference of the slowest host's two.
        """
        seconds = {}
        for name, run in self._programs.items():
            multihost_utils.sync_global_devices("begin")
            begun = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name] = (time.perf_counter() - begun) / ROUNDS
        return seconds


def _rounds(mesh: Mesh, kind: str, size: int) -> Callable[[], object]:
    """A gather sends a payload to each other device; a sum sends one part of the rows to each, then the summed part."""
    devices, row = mesh.devices.size, 16  # float32 values of a row of a sum
    rows = devices * max(1, size // (4 * row))

    def local(codes):
        def step(carry, _):
            x, codes = carry
            for _ in range(_PRODUCTS):
                x = x @ x * (1.0 / _SIDE)
            codes = codes + x[0, 0].astype(codes.dtype)  # it waits for the products
            if kind == "gather":
                seen = collectives.all_gather({"codes": codes}, "exchange")["codes"][-1]
            else:
                seen = collectives.all_reduce(codes, Float("float32"), {}, "exchange") / devices
            return (x + seen.reshape(-1)[0].astype(jnp.float32) * 1e-9, seen), None

        (x, codes), _ = lax.scan(step, (jnp.ones((_SIDE, _SIDE)), codes), None, length=ROUNDS)
        return x[0], codes.reshape(-1)[:1]

    shape = np.zeros(size, np.uint8) if kind == "gather" else np.zeros((rows, row), np.float32)
    codes = put(shape, mesh, False)
    with streaming(between(devices)):  # as an engine's passes
        program = jax.jit(spmd(lambda codes: local(codes), mesh, (False,))).lower(codes).compile()
    jax.block_until_ready(program(codes))
    return lambda: program(codes)
