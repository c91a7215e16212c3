"""The pieces of a model on one device, each as a small program of its own: what a profile is made of."""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from thinwire.attention.partial import finish, partial_attention
from thinwire.benchmark.coding import coding_programs
from thinwire.benchmark.inputs import inputs_of
from thinwire.codecs.base import Codec
from thinwire.codecs.floats import Float
from thinwire.dims import ModelDims
from thinwire.engine import cast
from thinwire.models.families import FAMILIES
from thinwire.planning.profile import Curve, Profile
from thinwire.strategies import Setting, Strategy, Tensor
from thinwire.strategies.base import Traffic
from thinwire.strategies.work import Coding, tensor_share
from thinwire.weights.load import LoadedModel
from thinwire.wire import collectives
from thinwire.wire.silence import silence

Program = Callable[[], object]  # called for what it takes
Key = TypeVar("Key", bound=Hashable)

ROWS = (64, 256, 1024)
_TURNS, _SLICE_S = 5, 0.06  # a slice is longer than the period of a host's CPU quota
_LEAST_OF = 10  # turns, where what is wanted is the undisturbed machine
_LONG_S = 1.0  # a call of so long is timed once
TIMED = f"the least of {_LEAST_OF} turns, calls of over {_LONG_S:g} s timed once"
_PARTS = 4  # of a layer split by heads and columns, one of which is measured besides the whole
_LAYERS = 4  # whose weights are taken in turn, so that they come from memory as in a whole pass


class Pieces:
    """The pieces of a model, compiled on the device that makes this.

    Args:
        model: whose pieces they are; its context must be no less than the smallest of ``rows``.
        coded: uses of codecs.
        rows: sizes at which each piece is measured, ascending; attention with as many keys.

    Attributes:
        facts: what ``profile_of`` must know besides seconds, ready for JSON.
    """

    def __init__(self, model: LoadedModel, coded: Iterable[Coding], dtype: str = "float32", rows: Sequence[int] = ROWS):
        dims = FAMILIES[model.family].dims(model.config)
        coded = tuple(dict.fromkeys(coded))
        few = {**model.params, "layers": jax.tree.map(lambda x: x[:_LAYERS], model.params["layers"])}
        axes = FAMILIES[model.family].param_axes(model.config)
        parts, sharded = Tensor().shard(few, axes, dims, _PARTS)
        part = jax.tree.map(lambda x, split: x[0] if split else x, parts, sharded)
        whole, part = (jax.device_put(cast(params, dtype)) for params in (few, part))
        self._programs: dict[str, Program] = {}
        for count in rows:
            self._programs |= {
                f"attention/{count}": attention_program(dims, count, count, dtype),
                f"ends/{count}": ends_program(model, whole, count),
                f"embed/{count}": _embed_program(model, whole, count),
                f"layer/{count}": _layer_program(model, whole, count),
                f"part/{count}": _layer_program(model, part, count),
                **{f"{one.name}/{count}": coding_program(one, count) for one in coded},
            }
        for program in self._programs.values():
            _seconds_once(program)
        self.facts = {
            "model": model.name,
            "dtype": dtype,
            "rows": list(rows),
            "part_share": tensor_share(dims, _PARTS),
            "kv_share": dims.kv_flops() / (dims.row_flops() + dims.kv_flops()),
            "coding": [one.name for one in coded],
        }

    def turn(self) -> dict[str, float]:
        """Seconds of a call of each program, of a slice of time each."""
        return {name: _mean_seconds(program) for name, program in self._programs.items()}


def profile_of(facts: Mapping[str, Any], turns: Sequence[Mapping[str, float]]) -> Profile:
    """The profile that turns tell, by their medians: without links.

    Args:
        facts: of ``Pieces``.
        turns: of the same pieces.
    """
    rows = facts["rows"]
    middle = lambda name, count: statistics.median(turn[f"{name}/{count}"] for turn in turns)
    curve = lambda name: Curve(tuple(rows), tuple(middle(name, count) for count in rows))
    layer = lambda name: Curve(
        tuple(rows), tuple(max(0.0, middle(name, count) - middle("embed", count)) for count in rows)
    )
    return Profile(
        model=facts["model"],
        dtype=facts["dtype"],
        layer=layer("layer"),
        part=layer("part"),
        part_share=facts["part_share"],
        kv_share=facts["kv_share"],
        attention=Curve(tuple(count**2 for count in rows), curve("attention").seconds),
        ends=curve("ends"),
        coding={name: curve(name) for name in facts["coding"]},
    )


def profile_device(
    model: LoadedModel, coded: Iterable[Coding], dtype: str = "float32", rows: Sequence[int] = ROWS
) -> Profile:
    """The profile of the device that runs this, without its links; arguments as of ``Pieces``."""
    pieces = Pieces(model, coded, dtype, rows)
    return profile_of(pieces.facts, [pieces.turn() for _ in range(_TURNS)])


def seconds_of_all(programs: Mapping[Key, Program]) -> dict[Key, float]:
    """Seconds of a call of each program: the least of several turns, in each of which every one has a slice of time.

    So a neighbour who takes the machine for a while spoils a slice of many programs, and none altogether.
    """
    once = {name: _seconds_once(program) for name, program in programs.items()}
    found: dict[Key, list[float]] = {name: [seconds] if seconds > _LONG_S else [] for name, seconds in once.items()}
    for _ in range(_LEAST_OF):
        for name, program in programs.items():
            if once[name] <= _LONG_S:
                found[name].append(_mean_seconds(program))
    return {name: min(seconds) for name, seconds in found.items()}


def _seconds_once(program: Program) -> float:
    """Of the second call; the first one compiles."""
    jax.block_until_ready(program())
    begun = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - begun


def _mean_seconds(program: Program) -> float:
    times, begun = 0, time.perf_counter()
    while not times or time.perf_counter() - begun < _SLICE_S:
        jax.block_until_ready(program())
        times += 1
    return (time.perf_counter() - begun) / times


def attention_program(dims: ModelDims, rows: int, keys: int, dtype: str = "float32") -> Program:
    """One layer's attention of so many rows, of a causal model with a mask."""
    draw = lambda n, count, heads: jax.random.normal(jax.random.key(n), (count, heads, dims.head), jnp.float32)
    drawn = draw(0, rows, dims.heads), draw(1, keys, dims.kv_heads), draw(2, keys, dims.kv_heads)
    arrays = [x.astype(dtype) for x in drawn]

    visible_TS = jnp.tri(rows, keys, dtype=bool) if dims.causal else None
    attend = lambda q_THd, k_SKd, v_SKd, visible_TS: partial_attention(q_THd, k_SKd, v_SKd, visible_TS, dims.head**-0.5)
    program = jax.jit(lambda *given: finish(attend(*given)))
    return lambda: program(*arrays, visible_TS)


def _random_params(codec: Codec, dim: int) -> dict[str, Any]:
    return {name: x[0] for name, x in codec.init_params(jax.random.key(0), 1, dim).items()}


@functools.lru_cache(maxsize=8)  # decoding needs what was encoded: one compilation for both
def _every_way(codec: Codec, dim: int, rows: int) -> dict[str, Program]:
    return coding_programs(codec, _random_params(codec, dim), dim, rows)


def coding_program(coding: Coding, rows: int) -> Program:
    """One use of a codec on so many random rows, with random codebooks."""
    if coding.kind != "sum":
        return _every_way(coding.codec, coding.dim, rows)[coding.kind]
    params = _random_params(coding.codec, coding.dim)
    x_TD = jax.random.normal(jax.random.key(0), (rows, coding.dim), jnp.float32)
    with silence((0, coding.devices)):
        traced = jax.jit(lambda params, x_TD: collectives.all_reduce(x_TD, coding.codec, params, "sum"))
        program = traced.lower(params, x_TD).compile()
    return lambda: program(params, x_TD)


@dataclasses.dataclass(frozen=True)
class _NoAttention(Strategy):
    """Everything of a layer but its attention: queries are taken for its outputs."""

    codec: Codec = dataclasses.field(default=Float("float32"))
    name = "no-attention"

    def attend(self, scope, call):
        k_TKd, v_TKd = call.keys_values("kv", call.sites["kv"])
        scope.emitted["kept"] = {"k": call.rotate(k_TKd, call.position_T), "v": v_TKd}  # or nobody would compute them
        return call.rotate(call.q_THd, call.position_T)

    def traffic(self, setting):
        return Traffic((0,), (0,), 0)

    def flops(self, setting):
        return (setting.layout.tokens * (setting.dims.row_flops() + setting.dims.kv_flops()),)


def _layer_program(model: LoadedModel, params: Any, rows: int) -> Program:
    """Embedding and one layer without attention for so many rows; weights are taken of one layer after another."""
    family, strategy = FAMILIES[model.family], _NoAttention()
    config = dataclasses.replace(model.config, L=1)
    dims = family.dims(config)
    setting = Setting(dims, strategy.layout(dims, rows, 1, None))
    inputs_T, position_T = jnp.asarray(inputs_of(model, rows)), jnp.arange(rows)

    def whole(top, layer, inputs_T):
        return family.forward({**top, "layers": layer}, config, inputs_T, position_T, strategy, setting)

    depth = len(jax.tree.leaves(params["layers"])[0])
    layers = itertools.cycle([jax.tree.map(lambda x, n=n: (x[n],), params["layers"]) for n in range(depth)])
    program, top = jax.jit(whole), _top(params)
    return lambda: program(top, next(layers), inputs_T)


def _embed_program(model: LoadedModel, params: Any, rows: int) -> Program:
    """What enters layer 0 for so many rows."""
    family, position_T, top = FAMILIES[model.family], jnp.arange(rows), _top(params)
    program, inputs_T = jax.jit(lambda top, x: family.embed(top, model.config, x, position_T)), inputs_of(model, rows)
    return functools.partial(program, top, jnp.asarray(inputs_T))


def ends_program(model: LoadedModel, params: Any, rows: int) -> Program:
    """What enters layer 0 for so many rows, and the output for one.

    Args:
        model: gives sizes and inputs.
        params: its weights, on the device.
    """
    family, position_T, top = FAMILIES[model.family], jnp.arange(rows), _top(params)

    def ends(top, inputs_T):
        x_TD = family.embed(top, model.config, inputs_T, position_T)
        return x_TD, family.unembed(top, x_TD[-1:])

    return functools.partial(jax.jit(ends), top, jnp.asarray(inputs_of(model, rows)))


def _top(params: Any) -> dict[str, Any]:
    return {name: x for name, x in params.items() if name != "layers"}
