"""Residual vector quantisation: each stage codes what the stages before it have left of a row."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import pack_bits, packed_bytes, unpack_bits
from thinwire.codecs.vq import GroupedVQ, lookup, search
from thinwire.errors import ThinwireError


@dataclasses.dataclass(frozen=True)
class ResidualVQ(Codec):
    """``stages`` grouped vector quantisers one after another; a row is decoded to the sum of its codewords.

    Params: ``{"codebook": (S, G, C, E) float32}``. Payload: ``{"codes": (⌈T·S·G·bits/8⌉,) uint8}``, no header, with
    bits = ⌈log2 size⌉. The search is greedy, stage by stage. [residual VQ, as in SoundStream]

    Attributes:
        groups: pieces a row is cut into, the same in every stage; must divide its width.
        size: codewords of each group and stage, 2 to 65536.
        stages: quantisers in a row.

    Raises:
        ThinwireError: ``groups`` or ``stages`` is below 1, or ``size`` out of range.
    """

    groups: int = 16
    size: int = 32
    stages: int = 2

    always_written: ClassVar[tuple[str, ...]] = ("groups", "size", "stages")

    def __post_init__(self):
        self.stage  # noqa: B018 - checks the options
        if self.stages < 1:
            raise ThinwireError(f"Residual vector quantisation needs at least 1 stage, not {self.stages}.")

    @property
    def name(self) -> str:
        """Always ``rvq``."""
        return "rvq"

    @property
    def learns(self) -> bool:
        """A codebook for each stage."""
        return True

    @property
    def stage(self) -> GroupedVQ:
        """The quantiser that every stage is."""
        return GroupedVQ(self.groups, self.size)

    def check(self, dim: int) -> None:
        """Raises ThinwireError where ``groups`` does not divide ``dim``."""
        self.stage.check(dim)

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Returns ``{"codebook": (layers, S, G, C, E)}`` of normal codewords, each stage half as large."""
        flat = self.stage.init_params(key, layers * self.stages, dim)["codebook"]
        books = flat.reshape(layers, self.stages, *flat.shape[1:])
        return {"codebook": books * 0.5 ** jnp.arange(self.stages, dtype=jnp.float32)[None, :, None, None, None]}

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns ``{"codes": ...}``, row by row, the codes of a row stage by stage."""
        del known
        self.check(x_TD.shape[1])

        def one_stage(left_TD, codebook_GCE):
            codes_TG = search(codebook_GCE, left_TD)
            return left_TD - lookup(codebook_GCE, codes_TG), codes_TG

        books_SGCE = params["codebook"].astype(jnp.float32)
        _, codes_STG = jax.lax.scan(one_stage, x_TD.astype(jnp.float32), books_SGCE)
        return {"codes": pack_bits(codes_STG.transpose(1, 0, 2).reshape(-1), self.stage.bits)}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the sums of the codewords that the payload names."""
        del known
        self.check(dim)
        codes = unpack_bits(payload["codes"], self.stage.bits, tokens * self.stages * self.groups)
        codes_STG = codes.reshape(tokens, self.stages, self.groups).transpose(1, 0, 2)
        return jnp.sum(jax.vmap(lookup)(params["codebook"].astype(jnp.float32), codes_STG), axis=0)

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T · S · G · ⌈log2 size⌉ / 8⌉, whatever the width."""
        del dim
        return packed_bytes(tokens * self.stages * self.groups, self.stage.bits)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: S · G · ⌈log2 size⌉."""
        return self.stages * self.stage.bits_per_token(dim)

    def encode_flops(self, dim: int) -> float:
        """FLOPs of the search of every stage."""
        return self.stages * self.stage.encode_flops(dim)
