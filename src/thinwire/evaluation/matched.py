"""Codecs of every kind at the same number of bits, so that a comparison is of kinds and not of rates."""

import dataclasses
import itertools
from collections.abc import Iterator

from thinwire.codecs import FSQ, BlockInt, Codec, GroupedVQ, LowRank, Predictive, ResidualVQ, SegmentMeans, Sign, TopK
from thinwire.errors import ThinwireError

TOLERANCE = 0.08
VQ_SIZES = (1024, 256, 32, 16)
RVQ_SIZES = ((1024, 2), (32, 2), (16, 4))
FSQ_LEVELS = (3, 5, 9)
# What comes after a prediction, too: one variant of each kind.
PREDICTED = (
    "vq, 1024 codewords",
    "vq, 32 codewords",
    "rvq, 2 x 32",
    "fsq, 3 levels",
    "lowrank, 4 bits",
    "topk, 8 bits",
    "sign",
    "means, 8 bits",
    "int2",
)


@dataclasses.dataclass(frozen=True)
class Matched:
    """The codec of a kind that comes nearest to the bits that were asked for.

    Attributes:
        kind: of compressor, in words.
        codec: the nearest.
        bits: of a row of the width that was asked for.
        fits: whether that is near enough.
    """

    kind: str
    codec: Codec
    bits: float
    fits: bool


def matched(dim: int, bits: float, tolerance: float = TOLERANCE, knows_tokens: bool = True) -> list[Matched]:
    """The nearest codec of every kind, for rows of ``dim`` values.

    Args:
        bits: of a row; a codec fits within ``tolerance`` times that.
        knows_tokens: whether predictions may look at tokens, as in models whose inputs all devices know.

    Raises:
        ThinwireError: ``bits`` is not above 0.
    """
    if not bits > 0:
        raise ThinwireError(f"{bits:g} bits hold nothing; ask for more than 0.")
    found = []
    for kind, codecs in kinds(dim, knows_tokens).items():
        able = [codec for codec in codecs if _can(codec, dim)]
        if able:
            nearest = min(able, key=lambda codec: abs(codec.bits_per_token(dim) - bits))
            cost = nearest.bits_per_token(dim)
            found.append(Matched(kind, nearest, cost, abs(cost - bits) <= tolerance * bits))
    return found


def kinds(dim: int, knows_tokens: bool = True) -> dict[str, list[Codec]]:
    """Codecs of many rates by kind; some may not fit rows of this width."""
    divisors = [groups for groups in range(1, dim + 1) if dim % groups == 0]
    blocks = sorted({32, 64, 128, dim})
    made: dict[str, list[Codec]] = {f"int{b}": [BlockInt(b, block) for block in blocks] for b in (8, 4, 2)}
    for size in VQ_SIZES:
        made[f"vq, {size} codewords"] = [GroupedVQ(groups, size) for groups in divisors]
    for size, stages in RVQ_SIZES:
        made[f"rvq, {stages} x {size}"] = [ResidualVQ(groups, size, stages) for groups in divisors]
    for b in (16, 8):
        made[f"topk, {b} bits"] = [TopK(keep, b) for keep in range(1, dim + 1)]
    for b in (8, 4):
        made[f"lowrank, {b} bits"] = [LowRank(dims, b) for dims in range(1, dim + 1)]
    for levels in FSQ_LEVELS:
        made[f"fsq, {levels} levels"] = [FSQ(dims, levels) for dims in range(1, dim + 1)]
    made["sign"] = [Sign(block) for block in blocks]
    for b in (16, 8):
        made[f"means, {b} bits"] = [SegmentMeans(length, b) for length in range(1, 257)]
    predicted = lambda codec: Predictive(codec) if knows_tokens else Predictive(codec, rank=0)
    for kind in PREDICTED:
        made[f"predict+{kind}"] = [predicted(codec) for codec in made[kind]]
    return made


def chosen(dim: int, rates: list[float], tolerance: float = TOLERANCE, knows_tokens: bool = True) -> list[Codec]:
    """The codecs that fit any of several numbers of bits, each once, rate by rate."""
    every: Iterator[Matched] = itertools.chain.from_iterable(
        matched(dim, bits, tolerance, knows_tokens) for bits in rates
    )
    return list(dict.fromkeys(one.codec for one in every if one.fits))


def _can(codec: Codec, dim: int) -> bool:
    try:
        codec.check(dim)
    except ThinwireError:
        return False
    return True
