"""Finite scalar quantisation: few coordinates of few levels each, on axes and with steps that calibration found."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.lowrank import check_axes, random_axes
from thinwire.codecs.packing import digit_bits, digit_bytes, pack_digits, unpack_digits
from thinwire.codecs.uniform import from_codes, to_codes
from thinwire.errors import ThinwireError

MAX_LEVELS = 256


@dataclasses.dataclass(frozen=True)
class FSQ(Codec):
    """Rounds ``dims`` principal coordinates of a row, less the mean row, to ``levels`` levels each.

    Params: ``{"mean": (D,), "basis": (D, r), "step": (r,)}``, float32; each coordinate's step is the one that leaves
    least error on the calibration rows. Beyond the outer levels coordinates are clipped, where a trained FSQ bounds
    them by tanh. Payload: ``{"codes": (bytes,) uint8}``, mixed radix: as many digits as serve best share words of at
    most 16 bits (3 levels cost 1.6 bits, not 2; see ``pack_digits``), no header. [Mentzer et al., FSQ]

    Attributes:
        dims: r, coordinates sent of each row; at most its width.
        levels: levels of each coordinate, 2 to 256, not only powers of two.

    Raises:
        ThinwireError: ``dims`` is below 1, or ``levels`` out of range.
    """

    dims: int = 32
    levels: int = 4

    always_written: ClassVar[tuple[str, ...]] = ("dims", "levels")

    def __post_init__(self):
        if self.dims < 1:
            raise ThinwireError(f"Finite scalar quantisation sends at least 1 coordinate, not dims={self.dims}.")
        if not 2 <= self.levels <= MAX_LEVELS:
            raise ThinwireError(f"A coordinate has 2 to {MAX_LEVELS} levels, not {self.levels}.")

    @property
    def name(self) -> str:
        """Always ``fsq``."""
        return "fsq"

    @property
    def learns(self) -> bool:
        """The mean, the axes and the steps."""
        return True

    def check(self, dim: int) -> None:
        """Raises ThinwireError where rows have fewer than ``dims`` values."""
        check_axes(self.dims, dim)

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Returns a mean of zero, random axes, and steps for coordinates of unit variance."""
        self.check(dim)
        return random_axes(key, layers, dim, self.dims, 4.0 / self.levels)

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns ``{"codes": ...}``, row by row, the leading axis first."""
        del known
        z_Tr = (x_TD.astype(jnp.float32) - params["mean"][None]) @ params["basis"]
        codes_Tr = to_codes(z_Tr, params["step"], self.levels)
        return {"codes": pack_digits(codes_Tr.reshape(x_TD.shape[0] * self.dims), self.levels)}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the rows of the subspace that the levels name."""
        del known
        codes_Tr = unpack_digits(payload["codes"], self.levels, tokens * self.dims).reshape(tokens, self.dims)
        return from_codes(codes_Tr, params["step"], self.levels) @ params["basis"].T + params["mean"][None]

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: those of T · r digits in words, whatever the width."""
        del dim
        return digit_bytes(tokens * self.dims, self.levels)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: r times the bits of a digit, at most 9 % above log2 levels."""
        del dim
        return self.dims * digit_bits(self.levels)

    def encode_flops(self, dim: int) -> float:
        """FLOPs of the projection."""
        return 2.0 * dim * self.dims

    def decode_flops(self, dim: int) -> float:
        """FLOPs of the way back."""
        return 2.0 * dim * self.dims
