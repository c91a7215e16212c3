"""What crosses the wire: one small frozen dataclass a codec, and the registry that names them.

A new codec is one file and one line in ``CODECS``.
"""

import functools
from collections.abc import Callable

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.blockint import BlockInt
from thinwire.codecs.drop import Drop
from thinwire.codecs.floats import Float
from thinwire.codecs.fsq import FSQ
from thinwire.codecs.lowrank import LowRank
from thinwire.codecs.means import SegmentMeans
from thinwire.codecs.predictive import PREFIX, AfterPrediction, Predictive
from thinwire.codecs.rvq import ResidualVQ
from thinwire.codecs.sign import Sign
from thinwire.codecs.topk import TopK
from thinwire.codecs.vq import GroupedVQ

# The names that a user types, each with what makes the codec from its options.
CODECS: dict[str, Callable[..., Codec]] = {
    "float32": functools.partial(Float, "float32"),
    "bfloat16": functools.partial(Float, "bfloat16"),
    "float16": functools.partial(Float, "float16"),
}
# What may also follow a prediction.
QUANTISERS: dict[str, Callable[..., Codec]] = {
    "int8": functools.partial(BlockInt, 8),
    "int4": functools.partial(BlockInt, 4),
    "int2": functools.partial(BlockInt, 2),
    "vq": GroupedVQ,
    "rvq": ResidualVQ,
    "topk": TopK,
    "lowrank": LowRank,
    "fsq": FSQ,
    "sign": Sign,
    "means": SegmentMeans,
    "drop": Drop,
}
CODECS |= QUANTISERS
CODECS["pvq"] = AfterPrediction(GroupedVQ, (("groups", 48), ("size", 32)))
CODECS |= {PREFIX + name: AfterPrediction(make) for name, make in QUANTISERS.items() if name != "vq"}
# By rate, for rows of 384 values: about 50, 100 and 1000 times fewer bits than float32; and what the papers do, at the
# layer input (``strategies.parse`` knows which site a preset means).
PRESETS: dict[str, Callable[..., Codec]] = {
    "quality": functools.partial(CODECS["pvq"], groups=48, size=32, rotate="fisher"),
    "balanced": functools.partial(CODECS["pvq"], groups=24, size=32, rotate="fisher", axes=96),
    "extreme": functools.partial(CODECS["pvq"], groups=2, size=64),
    "paper": functools.partial(GroupedVQ, groups=16, size=1024),
}
CODECS |= PRESETS
ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", PREFIX + "vq": "pvq"}
CODECS |= {alias: CODECS[name] for alias, name in ALIASES.items()}

__all__ = [
    "ALIASES",
    "CODECS",
    "FSQ",
    "PRESETS",
    "QUANTISERS",
    "BlockInt",
    "Codec",
    "CodecParams",
    "Drop",
    "Float",
    "GroupedVQ",
    "Known",
    "LowRank",
    "Payload",
    "Predictive",
    "ResidualVQ",
    "SegmentMeans",
    "Sign",
    "TopK",
]
