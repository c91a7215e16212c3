"""Signs: one bit an entry, and for each block of a row how large its entries are."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import pack_bits, packed_bytes, unpack_bits
from thinwire.errors import ThinwireError

_TOP = 65504.0  # float16's largest


@dataclasses.dataclass(frozen=True)
class Sign(Codec):
    """Decodes every entry to plus or minus the mean magnitude of its block, around a mean row.

    Params: ``{"mean": (D,) float32}``, or nothing with ``centre=0``. Payload, with B = ⌈D / block⌉ blocks, the last one
    possibly short: ``{"signs": (⌈T·D/8⌉,) uint8, "scale": (T, B) float16}``. The mean magnitude is the scale of least
    squared error for given signs. [1-bit SGD; XNOR-Net's scale]

    Attributes:
        block: values that share a scale.
        centre: 1 takes signs about a learnt mean row, 0 about zero.

    Raises:
        ThinwireError: ``block`` is below 1, or ``centre`` is neither 0 nor 1.
    """

    block: int = 64
    centre: int = 1

    always_written: ClassVar[tuple[str, ...]] = ("block",)

    def __post_init__(self):
        if self.block < 1:
            raise ThinwireError(f"A block of signs needs at least 1 value, not {self.block}.")
        if self.centre not in (0, 1):
            raise ThinwireError(
                f"Signs are about a learnt mean (centre=1) or about zero (centre=0), not {self.centre}."
            )

    @property
    def name(self) -> str:
        """Always ``sign``."""
        return "sign"

    @property
    def learns(self) -> bool:
        """The mean row, if it is wanted."""
        return self.centre == 1

    def _blocks(self, dim: int) -> int:
        return -(-dim // self.block)

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Returns a mean of zero."""
        del key
        return {"mean": jnp.zeros((layers, dim))} if self.centre else {}

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns the signs, 1 for entries that are not negative, and the scales."""
        del known
        tokens, dim = x_TD.shape
        blocks = self._blocks(dim)
        x_TD = x_TD.astype(jnp.float32)
        if self.centre:
            x_TD = x_TD - params["mean"][None]
        signs = pack_bits((x_TD >= 0).reshape(tokens * dim).astype(jnp.uint8), 1)
        size_TD = jnp.pad(jnp.abs(x_TD), ((0, 0), (0, blocks * self.block - dim)))
        entries_B = jnp.minimum(self.block, dim - self.block * jnp.arange(blocks)).astype(jnp.float32)
        scale_TB = size_TD.reshape(tokens, blocks, self.block).sum(axis=-1) / entries_B[None]
        return {"signs": signs, "scale": jnp.minimum(scale_TB, _TOP).astype(jnp.float16)}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the mean row plus or minus the scales."""
        del known
        positive_TD = unpack_bits(payload["signs"], 1, tokens * dim).reshape(tokens, dim) == 1
        scale_TD = jnp.repeat(payload["scale"].astype(jnp.float32), self.block, axis=1)[:, :dim]
        x_TD = jnp.where(positive_TD, scale_TD, -scale_TD)
        return x_TD + params["mean"][None] if self.centre else x_TD

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T · D / 8⌉ of signs and 2 · T · ⌈D / block⌉ of scales."""
        return packed_bytes(tokens * dim, 1) + 2 * tokens * self._blocks(dim)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: D + 16 · ⌈D / block⌉."""
        return float(dim + 16 * self._blocks(dim))
