"""Block-wise integers: every block of a row has its own minimum and step, its values are 8-, 4- or 2-bit integers."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import pack_bits, packed_bytes, unpack_bits
from thinwire.errors import ThinwireError

# Bytes of one block's header: a float16 step and a float16 zero point.
HEADER_BYTES = 4


def _round_away(x: Float[Array, "..."], towards: float) -> Float[Array, "..."]:
    """Rounds float32 to the next float16 that is not nearer than ``x`` to the opposite of ``towards`` (±inf)."""
    near = x.astype(jnp.float16)
    beyond = jnp.nextafter(near, jnp.float16(towards))
    short = near.astype(jnp.float32) > x if towards < 0 else near.astype(jnp.float32) < x
    top = jnp.finfo(jnp.float16).max
    return jnp.clip(jnp.where(short, beyond, near), -top, top)


@dataclasses.dataclass(frozen=True)
class BlockInt(Codec):
    """Asymmetric integers by block: ``x ≈ zero + step · code``, codes 0 to ``2 ** bits - 1``.

    A row of ``D`` values splits into ``B = ⌈D / block⌉`` blocks, the last one possibly short. Each block's header is
    4 bytes, a float16 ``step`` and a float16 ``zero``, so the payload is
    ``{"codes": (⌈T·D·bits/8⌉,) uint8, "step": (T, B) float16, "zero": (T, B) float16}``.

    The zero is rounded down and the step up, and the codes are found against these *rounded* values: an error is
    never more than half of the step that is sent. Values beyond float16's ±65504 saturate there.

    Attributes:
        bits: bits a value: 8, 4 or 2.
        block: values that share a header.

    Raises:
        ThinwireError: ``bits`` is none of them, or ``block`` is below 1.
    """

    bits: int = 8
    block: int = 64

    def __post_init__(self):
        if self.bits not in (8, 4, 2):
            raise ThinwireError(f"Block-wise integers have 8, 4 or 2 bits, not {self.bits}.")
        if self.block < 1:
            raise ThinwireError(f"A block of integers needs at least 1 value, not {self.block}.")

    @property
    def name(self) -> str:
        """``int8``, ``int4`` or ``int2``."""
        return f"int{self.bits}"

    def _blocks(self, dim: int) -> int:
        return -(-dim // self.block)

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns the packed integers and the headers of ``T`` rows."""
        del params, known
        tokens, dim = x_TD.shape
        blocks = self._blocks(dim)
        top = jnp.finfo(jnp.float16).max.astype(jnp.float32)
        x_TD = jnp.clip(x_TD.astype(jnp.float32), -top, top)
        # A short last block is filled with its own last value, which moves neither end of its range.
        x_TD = jnp.pad(x_TD, ((0, 0), (0, blocks * self.block - dim)), mode="edge")
        x_TBe = x_TD.reshape(tokens, blocks, self.block)
        levels = (1 << self.bits) - 1
        zero_TB = _round_away(jnp.min(x_TBe, axis=-1), -jnp.inf)
        from_zero_TBe = x_TBe - zero_TB.astype(jnp.float32)[:, :, None]
        step_TB = _round_away(jnp.max(from_zero_TBe, axis=-1) / levels, jnp.inf)
        divisor_TB = jnp.where(step_TB > 0, step_TB, jnp.ones_like(step_TB)).astype(jnp.float32)
        codes_TBe = jnp.clip(jnp.round(from_zero_TBe / divisor_TB[:, :, None]), 0, levels)
        codes_TD = codes_TBe.reshape(tokens, blocks * self.block)[:, :dim].astype(jnp.uint8)
        return {"codes": pack_bits(codes_TD.reshape(tokens * dim), self.bits), "step": step_TB, "zero": zero_TB}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns float32 rows, each value within half a step of what was sent."""
        del params, known
        blocks = self._blocks(dim)
        codes_TD = unpack_bits(payload["codes"], self.bits, tokens * dim).reshape(tokens, dim)
        codes_TD = jnp.pad(codes_TD, ((0, 0), (0, blocks * self.block - dim)))
        codes_TBe = codes_TD.reshape(tokens, blocks, self.block).astype(jnp.float32)
        step_TB = payload["step"].reshape(tokens, blocks).astype(jnp.float32)
        zero_TB = payload["zero"].reshape(tokens, blocks).astype(jnp.float32)
        x_TBe = zero_TB[:, :, None] + step_TB[:, :, None] * codes_TBe
        return x_TBe.reshape(tokens, blocks * self.block)[:, :dim]

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T·D·bits/8⌉ of integers and 4 · T · ⌈D/block⌉ of headers."""
        return packed_bytes(tokens * dim, self.bits) + HEADER_BYTES * tokens * self._blocks(dim)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: D · bits + 32 · ⌈D/block⌉."""
        return float(dim * self.bits + 8 * HEADER_BYTES * self._blocks(dim))

    def options(self) -> dict[str, Any]:
        """The block; the bits are in the name."""
        return {"block": self.block}
