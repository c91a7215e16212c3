"""What crosses the wire: one small frozen dataclass a codec, and the registry that names them.

A new codec is one file and one line in ``CODECS``.
"""

import functools
from collections.abc import Callable

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.blockint import BlockInt
from thinwire.codecs.floats import Float
from thinwire.codecs.predictive import PredictiveVQ
from thinwire.codecs.vq import GroupedVQ

# The names that a user types, each with what makes the codec from its options.
CODECS: dict[str, Callable[..., Codec]] = {
    "float32": functools.partial(Float, "float32"),
    "bfloat16": functools.partial(Float, "bfloat16"),
    "float16": functools.partial(Float, "float16"),
    "int8": functools.partial(BlockInt, 8),
    "int4": functools.partial(BlockInt, 4),
    "int2": functools.partial(BlockInt, 2),
    "vq": GroupedVQ,
    "pvq": PredictiveVQ,
}
# By rate, for rows of 384 values: about 50, 100 and 1000 times fewer bits than float32.
PRESETS: dict[str, Callable[..., Codec]] = {
    "quality": functools.partial(PredictiveVQ, groups=48, size=32),
    "balanced": functools.partial(PredictiveVQ, groups=24, size=32),
    "extreme": functools.partial(PredictiveVQ, groups=1, size=1024),
}
CODECS |= PRESETS
ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
CODECS |= {alias: CODECS[name] for alias, name in ALIASES.items()}

__all__ = [
    "ALIASES",
    "CODECS",
    "PRESETS",
    "BlockInt",
    "Codec",
    "CodecParams",
    "Float",
    "GroupedVQ",
    "Known",
    "Payload",
    "PredictiveVQ",
]
