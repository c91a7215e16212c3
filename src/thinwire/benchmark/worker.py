"""The process on each host of a benchmark: holds the model, and does what it is told, a line of JSON for a line.

    python -m thinwire.benchmark.worker

The rendezvous comes by the environment (``thinwire.cluster.rendezvous``). Standard input brings orders such as
``{"do": "run", "key": 3, "times": 1}``, standard output takes ``{"seconds": [0.41]}`` or ``{"error": "..."}``.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PEERS = "peers"  # a mesh of all hosts; else this host alone
_GEMM_SECONDS = 0.6


class Worker:
    """A host's model and its compiled programs, by key."""

    def __init__(self):
        self.model: Any = None
        self.engines: dict[int, Any] = {}
        self.inputs: dict[int, Any] = {}

    def open(self, model: str, dtype: str) -> dict[str, Any]:
        """Loads the model; its hash, which must be the same on all hosts."""
        from thinwire.weights.load import load_model

        self.model, self.dtype = load_model(model), dtype
        return {"model_sha256": self.model.sha256}

    def prepare(
        self,
        key: int,
        strategy: str,
        tokens: int,
        place: str,
        split: list[float] | None = None,
        codebooks: str | None = None,
        silent: bool = False,
    ) -> dict[str, Any]:
        """Compiles a strategy's pass over so many tokens; what it computes and sends, by formula."""
        import jax

        from thinwire.benchmark.floor import model_flops
        from thinwire.benchmark.inputs import codecs_of, inputs_of
        from thinwire.engine import Engine
        from thinwire.strategies import parse_strategy
        from thinwire.weights.load import for_tokens
        from thinwire.wire.silence import silence
        from thinwire.wire.spmd import make_mesh, put

        parsed = parse_strategy(strategy)
        model = for_tokens(self.model, tokens)
        where = make_mesh(jax.device_count()) if place == PEERS else 1
        sharing = [engine for engine in self.engines.values() if engine.model.config == model.config]
        model = sharing[0].model if sharing else model
        engine = Engine(
            model, parsed, where, codecs_of(parsed, model, codebooks), tuple(split) if split else None, self.dtype,
            sharing, unrolled=True,
        )  # fmt: skip
        begun = time.perf_counter()
        with silence() if silent else contextlib.nullcontext():
            engine.prepare(tokens, "last")
        compiled = time.perf_counter() - begun
        self.engines[key] = engine
        self.inputs[key] = put(inputs_of(model, tokens), where, False)
        traffic = engine.traffic(tokens)
        return {
            "compile_s": compiled,
            "flops": list(engine.flops(tokens)),
            "model_flops": list(model_flops(parsed, engine.dims, tokens, engine.devices, engine.split)),
            "bytes_by_device": list(traffic.bytes_by_device),
            "messages_by_device": list(traffic.messages_by_device),
            "rounds": traffic.rounds,
            "codec": parsed.codec.spec() if parsed.sites_coded() else "",
            "bits_per_token_per_layer": parsed.bits_per_token(engine.dims),
        }

    def run(self, key: int, times: int = 1) -> dict[str, Any]:
        """Runs a prepared pass; seconds of each time, from when every host has begun until this host is done."""
        import jax

        engine, ids_T = self.engines[key], self.inputs[key]
        seconds = []
        for _ in range(times):
            if not isinstance(engine.where, int):
                self._meet()
            begun = time.perf_counter()
            jax.block_until_ready(engine.dispatch(ids_T))
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds}

    def coding(self, key: int) -> dict[str, Any]:
        """Seconds of a pass that go into encoding own rows and decoding the others', each timed alone."""
        from thinwire.benchmark.coding import coding_seconds

        return coding_seconds(self.engines[key], len(self.inputs[key]))

    def _meet(self) -> None:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("begin")

    def last(self, key: int) -> dict[str, Any]:
        """The largest logits of the last token, to compare with other runs."""
        engine = self.engines[key]
        logits_V = engine.time_to_first_token(np.asarray(self.inputs[key].addressable_shards[0].data))
        best = np.argsort(-logits_V)[:8]
        return {"tokens": best.tolist(), "logits": logits_V[best].tolist()}

    def gemm(self, tokens: int) -> dict[str, Any]:
        """The rate of this model's largest matrix product over so many rows, alone: FLOP/s."""
        import jax
        import jax.numpy as jnp

        from thinwire.models.families import FAMILIES

        dims = FAMILIES[self.model.family].dims(self.model.config)
        a = jnp.ones((tokens, dims.width), self.dtype)
        b = jnp.ones((dims.width, dims.hidden), self.dtype)
        multiply = jax.jit(lambda a, b: a @ b)
        multiply(a, b).block_until_ready()
        times, begun, flops = 0, time.perf_counter(), 2.0 * tokens * dims.width * dims.hidden
        while time.perf_counter() - begun < _GEMM_SECONDS:
            multiply(a, b).block_until_ready()
            times += 1
        return {"flops_per_second": times * flops / (time.perf_counter() - begun)}

    def forget(self) -> dict[str, Any]:
        """Drops all programs."""
        self.engines.clear()
        self.inputs.clear()
        return {}


def main() -> None:
    """Serves until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whoever prints in Python shall not disturb the lines
    from thinwire.cluster.rendezvous import join, leave
    from thinwire.errors import ThinwireError

    join()
    import jax

    jax.devices()  # the hosts tell each other of their devices: all of them now, before one is asked something alone
    worker = Worker()
    orders: dict[str, Callable[..., dict[str, Any]]] = {
        name: getattr(worker, name) for name in ("open", "prepare", "run", "coding", "last", "gemm", "forget")
    }
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = orders[order.pop("do")](**order)
        except ThinwireError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
    leave()


if __name__ == "__main__":
    main()
