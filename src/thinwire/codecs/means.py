"""Segment means: consecutive rows are cut into segments, and each sends only the mean of its rows."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array
from jaxtyping import Float as FloatArray

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.blockint import BlockInt
from thinwire.codecs.floats import Float
from thinwire.errors import ThinwireError


@dataclasses.dataclass(frozen=True)
class SegmentMeans(Codec):
    """Every row is decoded to the mean of its segment of ``length`` rows; nothing is learnt.

    The last, shorter segment is the mean of its own rows, and padding counts nowhere (``known["valid"]``). The
    payload is that of ``float16`` or of ``int8`` for ⌈T / length⌉ mean rows.

    Attention to n equal rows gives exp(score) n times, so attending to repeated means is Prism's attention to one mean
    with its softmax weight scaled by the segment's length. Where a model rotates keys by position this happens after
    decoding, so there the repeated keys differ by the positions of the rows that they stand for. [Prism]

    Attributes:
        length: rows of a segment.
        bits: of a value of a mean: 16 (float16) or 8 (``int8`` by blocks of 64).

    Raises:
        ThinwireError: ``length`` is below 1, or ``bits`` is neither 16 nor 8.
    """

    length: int = 8
    bits: int = 16

    always_written: ClassVar[tuple[str, ...]] = ("length",)

    def __post_init__(self):
        if self.length < 1:
            raise ThinwireError(f"A segment has at least 1 row, not length={self.length}.")
        if self.bits not in (16, 8):
            raise ThinwireError(f"The values of segment means have 16 or 8 bits, not {self.bits}.")

    @property
    def name(self) -> str:
        """Always ``means``."""
        return "means"

    @property
    def mixes_rows(self) -> bool:
        """Those of a segment."""
        return True

    @property
    def _of_means(self) -> Codec:
        return Float("float16") if self.bits == 16 else BlockInt(8)

    def _segments(self, tokens: int) -> int:
        return -(-tokens // self.length)

    def encode(self, params: CodecParams, x_TD: FloatArray[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns the payload of the mean rows."""
        tokens, dim = x_TD.shape
        segments = self._segments(tokens)
        valid_T = jnp.ones(tokens, bool) if known is None or "valid" not in known else known["valid"]
        x_TD = jnp.where(valid_T[:, None], x_TD.astype(jnp.float32), 0.0)
        short = segments * self.length - tokens
        sums_SD = jnp.pad(x_TD, ((0, short), (0, 0))).reshape(segments, self.length, dim).sum(axis=1)
        counts_S = jnp.pad(valid_T, (0, short)).reshape(segments, self.length).sum(axis=1)
        means_SD = sums_SD / jnp.maximum(counts_S, 1).astype(jnp.float32)[:, None]
        return self._of_means.encode(params, means_SD)

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> FloatArray[Array, "T D"]:
        """Returns the mean of each row's segment."""
        del known
        means_SD = self._of_means.decode(params, payload, self._segments(tokens), dim)
        return jnp.repeat(means_SD, self.length, axis=0)[:tokens]

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: those of ⌈T / length⌉ mean rows."""
        return self._of_means.payload_bytes(self._segments(tokens), dim)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: those of a mean row over ``length``."""
        return self._of_means.bits_per_token(dim) / self.length
