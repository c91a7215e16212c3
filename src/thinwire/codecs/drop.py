"""Nothing: other devices' tokens are not seen at all. The baseline that says what remote context is worth."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload


@dataclasses.dataclass(frozen=True)
class Drop(Codec):
    """Sends nothing, and what it does not send is not attended to (``sends``): 0 bytes.

    Zeros would not do for that: a key of zeros still takes its part of the softmax. They are what ``decode`` gives
    behind a prediction, where nothing is added to it.
    """

    @property
    def name(self) -> str:
        """Always ``drop``."""
        return "drop"

    @property
    def sends(self) -> bool:
        """Never."""
        return False

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns an empty payload."""
        del params, x_TD, known
        return {}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns zeros."""
        del params, payload, known
        return jnp.zeros((tokens, dim), jnp.float32)

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """None."""
        del tokens, dim
        return 0

    def bits_per_token(self, dim: int) -> float:
        """None."""
        del dim
        return 0.0
