"""How the cost of a codec and of one device's pass grows: with codewords, groups, tokens and devices."""

import dataclasses
from typing import Any

import jax

from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.pieces import coding_program, ends_program, seconds_of_all
from thinwire.codecs import GroupedVQ
from thinwire.dims import ModelDims
from thinwire.engine import Engine, cast
from thinwire.models.families import FAMILIES
from thinwire.planning.work import Coding, traffic_of
from thinwire.strategies import Setting, Single, Strategy
from thinwire.weights.load import LoadedModel, for_tokens


def codec_row(groups: int, size: int, dim: int, rows: int) -> dict[str, Any]:
    """Seconds a row of grouped VQ with random codebooks, of ``rows`` rows of ``dim`` values, on this device.

    Raises:
        ThinwireError: the groups do not divide the rows.
    """
    codec = GroupedVQ(groups, size)
    codec.check(dim)
    programs = {kind: coding_program(Coding(kind, codec, dim), rows) for kind in ("encode", "decode")}
    seconds = {kind: taken / rows for kind, taken in seconds_of_all(programs).items()}
    return {
        "codec": codec.spec(),
        "groups": groups,
        "size": size,
        "dim": dim,
        "rows": rows,
        "directions": codec.directions(dim),
        "encode_s_per_row": seconds["encode"],
        "decode_s_per_row": seconds["decode"],
    }


def one_layer(model: LoadedModel) -> LoadedModel:
    """The model with its first layer alone."""
    config = dataclasses.replace(model.config, L=1)
    layers = jax.tree.map(lambda x: x[:1], model.params["layers"])
    return dataclasses.replace(model, config=config, params={**model.params, "layers": layers})


def pass_row(
    model: LoadedModel, strategy: Strategy, tokens: int, devices: int, dtype: str = "float32", layers: int | None = None
) -> dict[str, Any]:
    """What the last of ``devices`` devices takes for its part of a pass, alone on this one, and what it would send.

    Its program is the one that it would run in company but for what it receives, which is its own payload
    (``Engine.alone``). It is run with one layer; a pass of ``layers`` is that many times the layer, and embedding and
    output once. Of devices of a causal model the last one has most to do.

    Args:
        layers: of the whole pass; by default as many as the model has.
    """
    layers = FAMILIES[model.family].dims(model.config).layers if layers is None else layers
    short = for_tokens(one_layer(model), tokens)
    engine = Engine(short, strategy, devices, codecs_of(strategy, short, None), dtype=dtype, unrolled=True)
    program, arguments = engine.alone(tokens, devices - 1)
    inputs_T = jax.device_put(inputs_of(short, tokens))
    rows = engine.layout(tokens).rows + engine.layout(tokens).shared
    seconds = seconds_of_all(
        {
            "pass": lambda: program(*arguments, inputs_T),
            "ends": ends_program(short, jax.device_put(cast(short.params, dtype)), rows),
        }
    )
    ends, layer_s = seconds["ends"], max(0.0, seconds["pass"] - seconds["ends"])
    whole = dataclasses.replace(engine.dims, layers=layers)
    return {
        "strategy": strategy.spec(),
        "tokens": tokens,
        "devices": devices,
        "rows": rows,
        "layer_s": layer_s,
        "ends_s": ends,
        "layers": layers,
        "device_s": layers * layer_s + ends,
        "layer_flops": device_flops(strategy, whole, tokens, devices),
        **sent(strategy, whole, tokens, devices),
    }


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
