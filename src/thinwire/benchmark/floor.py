"""What a pass takes by its work, bytes and round trips alone, one after another: what the ratio in rows is to."""

import dataclasses
from collections.abc import Sequence

from thinwire.codecs.floats import Float
from thinwire.dims import ModelDims
from thinwire.strategies import Sequence as SequenceParallel
from thinwire.strategies import Strategy, Tensor
from thinwire.strategies.base import Setting

DESCRIPTION = (
    "floor = max over hosts of model FLOPs / matrix rate just before and after the pass + 8 x bytes a host sends / "
    "rate of its link + rounds x measured round trip; coding, halos and everything that is no matrix product count as "
    "nothing"
)


def model_flops(strategy: Strategy, dims: ModelDims, tokens: int, devices: int, split) -> tuple[float, ...]:
    """FLOPs of each device's part of the model, head for one token included; coding and halos are free."""
    bare = strategy
    if isinstance(strategy, SequenceParallel):  # where the context is coded decides who projects what
        bare = dataclasses.replace(strategy, codec=Float("float32"), site=strategy.sites(dims)[0], halo=-1)
    elif isinstance(strategy, Tensor):
        bare = dataclasses.replace(strategy, codec=Float("float32"))
    head = 2.0 * dims.width * dims.vocab if dims.language else 0.0
    layer = bare.flops(Setting(dims, bare.layout(dims, tokens, devices, split)))
    return tuple(dims.layers * flops + head for flops in layer)


def floor_s(
    flops: Sequence[float],
    flops_per_second: Sequence[float],
    bytes_sent: Sequence[int],
    mbps: float,
    rounds: int,
    round_trip_s: float,
) -> float:
    """Seconds of the model's FLOPs, the bytes and the round trips, one after another.

    No bound where they overlap: hosts of a causal model compute while codes travel, a ring attends while it sends, and
    merged keys take fewer FLOPs than are counted.

    Args:
        flops: by host.
        flops_per_second: of each host, at the time of the pass.
        bytes_sent: by host.
        mbps: megabits a second of each host's link.
        rounds: exchanges one after another in a pass.
    """
    compute = max(f / rate for f, rate in zip(flops, flops_per_second, strict=True))
    return compute + link_s(bytes_sent, mbps, rounds, round_trip_s)


def link_s(bytes_sent: Sequence[int], mbps: float, rounds: int, round_trip_s: float) -> float:
    """The links' part of the floor: the bytes of the host that sends most at its link's rate, and the round trips."""
    return 8e-6 * max(bytes_sent) / mbps + rounds * round_trip_s
