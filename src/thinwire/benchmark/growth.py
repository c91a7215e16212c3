"""How the cost of a codec and of one device's pass grows: with codewords, groups, tokens and devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.pieces import Program, coding_program, ends_program, seconds_of_all
from thinwire.codecs import GroupedVQ
from thinwire.dims import ModelDims
from thinwire.engine import Engine, cast
from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Single, Strategy
from thinwire.strategies.work import Coding, traffic_of
from thinwire.weights.load import LoadedModel, for_tokens

Progress = Callable[[str], None]
KINDS: tuple[Literal["encode", "decode"], ...] = ("encode", "decode")


def _quiet(what: str) -> None:
    del what


def codec_rows(
    sizes: Sequence[tuple[int, int]], dim: int, rows: int, progress: Progress = _quiet
) -> list[dict[str, Any]]:
    """Seconds a row of grouped VQ with random codebooks, of ``rows`` rows of ``dim`` values, on this device.

    Args:
        sizes: groups and codewords of each codec; all are timed in turns.
        progress: told of each that has been compiled.

    Raises:
        ThinwireError: the groups do not divide the rows.
    """
    programs: dict[tuple[str, str], Program] = {}
    codecs = {GroupedVQ(groups, size): None for groups, size in sizes}
    for codec in codecs:
        codec.check(dim)
        for kind in KINDS:
            programs[codec.spec(), kind] = coding_program(Coding(kind, codec, dim), rows)
        progress(codec.spec())
    seconds = seconds_of_all(programs)
    return [
        {
            "codec": codec.spec(),
            "groups": codec.groups,
            "size": codec.size,
            "dim": dim,
            "rows": rows,
            "directions": codec.directions(dim),
            **{f"{kind}_s_per_row": seconds[codec.spec(), kind] / rows for kind in KINDS},
        }
        for codec in codecs
    ]


def one_layer(model: LoadedModel) -> LoadedModel:
    """The model with its first layer alone."""
    config = dataclasses.replace(model.config, L=1)
    layers = jax.tree.map(lambda x: x[:1], model.params["layers"])
    return dataclasses.replace(model, config=config, params={**model.params, "layers": layers})


def pass_rows(
    model: LoadedModel,
    places: Sequence[tuple[Strategy, int, int]],
    dtype: str = "float32",
    progress: Progress = _quiet,
) -> list[dict[str, Any]]:
    """What the last of several devices takes for its part of a pass, alone on this one, and what it would send.

    Its program is the one that it would run in company but for what it receives, which is its own payload
    (``Engine.alone``). It is run with one layer; a pass of all layers is that many times the layer, and embedding and
    output once. Of devices of a causal model the last one has most to do.

    Args:
        places: strategy, tokens and devices of each; all are timed in turns.
        progress: told of each that has been compiled.
    """
    programs: dict[tuple[int, str], Program] = {}
    facts = []
    for n, (strategy, tokens, devices) in enumerate(places):
        short = for_tokens(one_layer(model), tokens)
        engine = Engine(short, strategy, devices, codecs_of(strategy, short, None), dtype=dtype, unrolled=True)
        program, arguments = engine.alone(tokens, devices - 1)
        programs[n, "pass"] = functools.partial(program, *arguments, jax.device_put(inputs_of(short, tokens)))
        rows = engine.layout(tokens).rows + engine.layout(tokens).shared
        programs[n, "ends"] = ends_program(short, jax.device_put(cast(short.params, dtype)), rows)
        whole = dataclasses.replace(engine.dims, layers=FAMILIES[model.family].dims(model.config).layers)
        facts.append(
            {
                "strategy": strategy.spec(),
                "tokens": tokens,
                "devices": devices,
                "rows": rows,
                "layers": whole.layers,
                "layer_flops": device_flops(strategy, whole, tokens, devices),
                **sent(strategy, whole, tokens, devices),
            }
        )
        progress(f"{strategy.spec()}, {tokens} tokens, one of {devices}")
    seconds = seconds_of_all(programs)
    found = []
    for n, fact in enumerate(facts):
        ends, layer = seconds[n, "ends"], max(0.0, seconds[n, "pass"] - seconds[n, "ends"])
        found.append({**fact, "layer_s": layer, "ends_s": ends, "device_s": fact["layers"] * layer + ends})
    return found


def device_flops(strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> float:
    """FLOPs of one layer on the device that has most of them, by formula."""
    return max(strategy.flops(Setting(dims, strategy.layout(dims, tokens, devices, None))))


def sent(strategy: Strategy, dims: ModelDims, tokens: int, devices: int) -> dict[str, int]:
    """What a device sends in a whole pass, by formula."""
    traffic = traffic_of(strategy, dims, tokens, devices)
    return {"sent_bytes": max(traffic.bytes_by_device), "rounds": traffic.rounds}


def strategy_on(strategy: Strategy, devices: int) -> Strategy:
    """The strategy, or of one device the single one."""
    return Single() if devices == 1 else strategy
