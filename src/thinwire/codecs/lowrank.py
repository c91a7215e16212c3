"""Low rank: a row's coordinates on the principal axes that calibration found, as integers of fixed steps."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import pack_bits, packed_bytes, unpack_bits
from thinwire.codecs.uniform import from_codes, to_codes
from thinwire.errors import ThinwireError


@dataclasses.dataclass(frozen=True)
class LowRank(Codec):
    """Projects a row, less the mean row, on ``dims`` orthonormal axes and sends the coordinates.

    Params: ``{"mean": (D,), "basis": (D, r), "step": (r,)}``, float32; the basis is the principal axes of the
    calibration rows, largest variance first, the step that of the coordinate's integers. Payload:
    ``{"codes": (⌈T·r·bits/8⌉,) uint8}``; steps are learnt, so a row has no header. [PCA]

    Attributes:
        dims: r, coordinates sent of each row; at most its width. (``rank`` is an option of prediction.)
        bits: of a coordinate: 8 or 4.

    Raises:
        ThinwireError: ``dims`` is below 1, or ``bits`` is neither 8 nor 4.
    """

    dims: int = 16
    bits: int = 8

    always_written: ClassVar[tuple[str, ...]] = ("dims",)

    def __post_init__(self):
        if self.dims < 1:
            raise ThinwireError(f"A low-rank codec sends at least 1 coordinate, not dims={self.dims}.")
        if self.bits not in (8, 4):
            raise ThinwireError(f"The coordinates of a low-rank codec have 8 or 4 bits, not {self.bits}.")

    @property
    def name(self) -> str:
        """Always ``lowrank``."""
        return "lowrank"

    @property
    def learns(self) -> bool:
        """The mean, the axes and the steps."""
        return True

    @property
    def levels(self) -> int:
        """Values of a coordinate's integer."""
        return 1 << self.bits

    def check(self, dim: int) -> None:
        """Raises ThinwireError where rows have fewer than ``dims`` values."""
        check_axes(self.dims, dim)

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Returns a mean of zero, random axes, and steps for coordinates of unit variance."""
        self.check(dim)
        return random_axes(key, layers, dim, self.dims, 8.0 / self.levels)

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns ``{"codes": ...}``, row by row, the leading axis first."""
        del known
        z_Tr = (x_TD.astype(jnp.float32) - params["mean"][None]) @ params["basis"]
        codes_Tr = to_codes(z_Tr, params["step"], self.levels)
        return {"codes": pack_bits(codes_Tr.reshape(x_TD.shape[0] * self.dims), self.bits)}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the rows of the subspace that the coordinates name."""
        del known
        codes_Tr = unpack_bits(payload["codes"], self.bits, tokens * self.dims).reshape(tokens, self.dims)
        return from_codes(codes_Tr, params["step"], self.levels) @ params["basis"].T + params["mean"][None]

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T · r · bits / 8⌉, whatever the width."""
        del dim
        return packed_bytes(tokens * self.dims, self.bits)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: r · bits."""
        del dim
        return float(self.dims * self.bits)

    def encode_flops(self, dim: int) -> float:
        """FLOPs of the projection."""
        return 2.0 * dim * self.dims

    def decode_flops(self, dim: int) -> float:
        """FLOPs of the way back."""
        return 2.0 * dim * self.dims


def check_axes(dims: int, dim: int) -> None:
    """Raises ThinwireError where rows of ``dim`` values cannot have ``dims`` orthonormal axes."""
    if dims > dim:
        raise ThinwireError(f"Rows of {dim} values have no {dims} coordinates; use dims={dim} or less.")


def random_axes(key: Array, layers: int, dim: int, dims: int, step: float) -> dict[str, Array]:
    """A mean of zero, random orthonormal axes and equal steps, with a leading axis of layers."""
    basis_LDD = jnp.linalg.qr(jax.random.normal(key, (layers, dim, dim)))[0]
    return {
        "mean": jnp.zeros((layers, dim)),
        "basis": basis_LDD[:, :, :dims],
        "step": jnp.full((layers, dims), step, jnp.float32),
    }
