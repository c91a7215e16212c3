"""Top-k: the entries of largest magnitude of each row and where they are; the others are zero."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import MAX_BITS, pack_bits, packed_bytes, unpack_bits
from thinwire.errors import ThinwireError

_TOP = 65504.0  # float16's largest
_INT8 = 127  # codes −127 to 127, sent as 0 to 254


@dataclasses.dataclass(frozen=True)
class TopK(Codec):
    """Sends the ``keep`` entries of a row that are largest in magnitude; nothing is learnt.

    Payload: ``{"index": (⌈T·k·b/8⌉,) uint8}`` with b = ⌈log2 D⌉ bits an index, and the values: with ``bits=16``
    ``{"values": (T, k) float16}``, with ``bits=8`` ``{"values": (T, k) uint8, "scale": (T,) float16}``. Values beyond
    float16's ±65504 saturate there. [magnitude sparsification; Bian et al. for activations]

    Attributes:
        keep: k, entries sent of each row; at most its width.
        bits: of a value: 16 (float16) or 8 (integers of a scale that the row sends).

    Raises:
        ThinwireError: ``keep`` is below 1, or ``bits`` is neither 16 nor 8.
    """

    keep: int = 16
    bits: int = 16

    always_written: ClassVar[tuple[str, ...]] = ("keep",)

    def __post_init__(self):
        if self.keep < 1:
            raise ThinwireError(f"Top-k keeps at least 1 entry, not {self.keep}.")
        if self.bits not in (16, 8):
            raise ThinwireError(f"The values of top-k have 16 or 8 bits, not {self.bits}.")

    @property
    def name(self) -> str:
        """Always ``topk``."""
        return "topk"

    def check(self, dim: int) -> None:
        """Raises ThinwireError where rows have fewer than ``keep`` entries, or too many to number."""
        if self.keep > dim:
            raise ThinwireError(f"Rows of {dim} values have no {self.keep} to keep; use keep={dim} or less.")
        if dim > 1 << MAX_BITS:
            raise ThinwireError(f"Rows of {dim} values are wider than the {1 << MAX_BITS} that top-k can number.")

    @staticmethod
    def _index_bits(dim: int) -> int:
        return max(1, (dim - 1).bit_length())

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns indices and values, the largest magnitude of a row first."""
        del params, known
        tokens, dim = x_TD.shape
        self.check(dim)
        x_TD = jnp.clip(x_TD.astype(jnp.float32), -_TOP, _TOP)
        _, index_Tk = jax.lax.top_k(jnp.abs(x_TD), self.keep)
        values_Tk = jnp.take_along_axis(x_TD, index_Tk, axis=1)
        index = pack_bits(index_Tk.reshape(tokens * self.keep), self._index_bits(dim))
        if self.bits == 16:
            return {"index": index, "values": values_Tk.astype(jnp.float16)}
        scale_T = (jnp.abs(values_Tk[:, 0]) / _INT8).astype(jnp.float16)
        divisor_T = jnp.where(scale_T > 0, scale_T, jnp.ones_like(scale_T)).astype(jnp.float32)
        codes_Tk = jnp.clip(jnp.round(values_Tk / divisor_T[:, None]), -_INT8, _INT8) + _INT8
        return {"index": index, "values": codes_Tk.astype(jnp.uint8), "scale": scale_T}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns rows that are zero but for the entries sent."""
        del params, known
        index_Tk = unpack_bits(payload["index"], self._index_bits(dim), tokens * self.keep).reshape(tokens, self.keep)
        values_Tk = payload["values"].astype(jnp.float32)
        if self.bits == 8:
            values_Tk = (values_Tk - _INT8) * payload["scale"].astype(jnp.float32)[:, None]
        rows_T1 = jnp.arange(tokens)[:, None]
        return jnp.zeros((tokens, dim), jnp.float32).at[rows_T1, index_Tk].set(values_Tk)

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T · k · ⌈log2 D⌉ / 8⌉ of indices, T · k · bits/8 of values, 2 · T of scales if any."""
        scales = 2 * tokens if self.bits == 8 else 0
        return packed_bytes(tokens * self.keep, self._index_bits(dim)) + tokens * self.keep * self.bits // 8 + scales

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: k · (⌈log2 D⌉ + bits), and 16 of a scale if there is one."""
        return float(self.keep * (self._index_bits(dim) + self.bits) + (16 if self.bits == 8 else 0))
