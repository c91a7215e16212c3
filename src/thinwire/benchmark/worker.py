"""The process on each host of a benchmark: holds the model, and does what it is told, a line of JSON for a line.

    python -m thinwire.benchmark.worker

The rendezvous comes by the environment (``thinwire.cluster.rendezvous``). Standard input brings orders such as
``{"do": "run", "strategy": "single"}``, standard output takes
``{"seconds": 0.41, ...}`` or ``{"error": "..."}``.
"""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from thinwire.benchmark.coding import coding_seconds
from thinwire.benchmark.exchange import Exchanges
from thinwire.benchmark.fleet import BEGUN
from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.pace import Pace
from thinwire.benchmark.pieces import Pieces
from thinwire.benchmark.recording import record, truly_named
from thinwire.benchmark.rows import facts_of
from thinwire.cluster.rendezvous import join, leave
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import parse_strategy
from thinwire.strategies.balance import Balanced
from thinwire.strategies.work import codings
from thinwire.training.artefact import load as load_artefact
from thinwire.training.artefact import trained_model
from thinwire.weights.load import for_tokens, load_model
from thinwire.wire.silence import silence
from thinwire.wire.spmd import make_mesh, put


class Worker:
    """A host's model and its compiled programs, by strategy and whether they are silent."""

    pace: Pace
    pieces: Pieces
    rounds: Exchanges

    def __init__(self, say: Callable[[dict[str, Any]], None]):
        self._say = say
        self.model: Any = None
        self.engines: dict[tuple[str, bool], Engine] = {}
        self.inputs: dict[tuple[str, bool], jax.Array] = {}

    def open(self, model: str, dtype: str, trained: str = "") -> dict[str, Any]:
        """Loads the model, with the trained weights in a folder if one is named; its hash, the same on all hosts."""
        base = lambda: load_model(model)
        self.model, self.dtype = (trained_model(load_artefact(trained), base) if trained else base()), dtype
        return {"model_sha256": self.model.sha256}

    def prepare(
        self,
        strategy: str,
        tokens: int,
        alone: bool,
        split: list[float] | None = None,
        balanced: bool = False,
        codebooks: str | None = None,
        silent: bool = False,
    ) -> dict[str, Any]:
        """Compiles a strategy's pass over so many tokens, on this host alone or on all; what it computes and sends."""
        parsed, model = parse_strategy(strategy), for_tokens(self.model, tokens)
        where = 1 if alone else make_mesh(jax.device_count())
        sharing = [engine for engine in self.engines.values() if engine.model.config == model.config]
        model = sharing[0].model if sharing else model
        shares = Balanced(tuple(split or ()) or None) if balanced else tuple(split) if split else None
        codecs = codecs_of(parsed, model, codebooks)
        engine = Engine(model, parsed, where, codecs, shares, self.dtype, sharing, unrolled=True)
        begun = time.perf_counter()
        with silence() if silent else contextlib.nullcontext():
            engine.prepare(tokens, "last")
        compiled = time.perf_counter() - begun
        self.engines[strategy, silent] = engine
        self.inputs[strategy, silent] = put(inputs_of(model, tokens), where, False)
        return {"compile_s": compiled, **facts_of(engine, tokens)}

    def run(self, strategy: str, silent: bool, tell: bool = False) -> dict[str, Any]:
        """Runs a prepared pass: seconds and CPU seconds from when all hosts have begun until it is done; a hash.

        Beside it the FLOP/s of a matrix product just before and just after, their mean. If it is to tell, a line says
        when all have begun.
        """
        engine, inputs_T = self.engines[strategy, silent], self.inputs[strategy, silent]
        before = self.pace.rate()
        if not isinstance(engine.where, int):
            multihost_utils.sync_global_devices("begin")
        if tell:
            self._say({BEGUN: True})
        begun, used = time.perf_counter(), time.process_time()
        out = jax.block_until_ready(engine.dispatch(inputs_T))
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        here = np.asarray(out["logits"].addressable_shards[0].data)
        return {
            "seconds": seconds,
            "cpu_s": used,
            "output_sha256": hashlib.sha256(here.tobytes()).hexdigest(),
            "flops_per_second": (before + self.pace.rate()) / 2,
        }

    def profile(self, strategy: str, folder: str) -> dict[str, Any]:
        """Runs a prepared pass under the profiler, which leaves its files in a folder."""
        engine, inputs_T = self.engines[strategy, False], self.inputs[strategy, False]
        meet = lambda: None if isinstance(engine.where, int) else multihost_utils.sync_global_devices("begin")
        return {"seconds": record(engine, inputs_T, Path(folder), jax.process_index(), meet)}

    def coding(self, strategy: str) -> dict[str, Any]:
        """Seconds of a pass that go into encoding own rows and decoding the others', each timed alone."""
        return coding_seconds(self.engines[strategy, False], len(self.inputs[strategy, False]))

    def watch(self, tokens: int) -> dict[str, Any]:
        """Has the rate of this model's largest matrix product over so many rows measured around every run from now."""
        dims = FAMILIES[self.model.family].dims(self.model.config)
        self.pace = Pace(tokens, dims.width, dims.hidden, self.dtype)
        return {}

    def prepare_pieces(self, strategies: list[str], devices: int, rows: list[int]) -> dict[str, Any]:
        """Compiles the pieces of a layer, and of the codecs of strategies on so many devices; facts of them."""
        dims = FAMILIES[self.model.family].dims(self.model.config)
        coded = [one for spec in strategies for one in codings(parse_strategy(spec), dims, devices)]
        self.pieces = Pieces(self.model, coded, self.dtype, rows)
        return self.pieces.facts

    def time_pieces(self) -> dict[str, Any]:
        """Seconds of each of the pieces."""
        return self.pieces.turn()

    def exchanges(self, sizes: list[int]) -> dict[str, Any]:
        """Compiles rounds of work with exchanges of so many bytes."""
        self.rounds = Exchanges(make_mesh(jax.device_count()), sizes)
        return {}

    def time_exchanges(self) -> dict[str, Any]:
        """Seconds of a round of each."""
        return self.rounds.turn()

    def forget(self) -> dict[str, Any]:
        """Drops all programs."""
        self.engines.clear()
        self.inputs.clear()
        return {}


ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "open": Worker.open,
    "prepare": Worker.prepare,
    "run": Worker.run,
    "profile": Worker.profile,
    "coding": Worker.coding,
    "watch": Worker.watch,
    "prepare_pieces": Worker.prepare_pieces,
    "time_pieces": Worker.time_pieces,
    "exchanges": Worker.exchanges,
    "time_exchanges": Worker.time_exchanges,
    "forget": Worker.forget,
}


def serve(answers: TextIO) -> None:
    """Answers a line for a line of standard input, and tells of what happens in between."""
    say = lambda answer: print(json.dumps(answer), file=answers, flush=True)
    worker = Worker(say)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = ORDERS[order.pop("do")](worker, **order)
        except ThinwireError as error:
            answer = {"error": str(error)}
        say(answer)


def main() -> None:
    """Serves until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whoever prints in Python shall not disturb the lines
    join()
    jax.devices()  # the hosts tell each other of their devices: all of them now, before one is asked something alone
    with truly_named():
        serve(answers)
    leave()


if __name__ == "__main__":
    main()
