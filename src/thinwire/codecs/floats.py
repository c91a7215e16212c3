"""Floats on the wire: rows cast to float32, bfloat16 or float16, nothing learnt and no header."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array
from jaxtyping import Float as FloatArray

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.errors import ThinwireError

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


@dataclasses.dataclass(frozen=True)
class Float(Codec):
    """Sends each value as one float; the payload is ``{"values": (T, D)}`` of that type.

    float16 ends at ±65504: larger values saturate there instead of becoming infinite.

    Attributes:
        dtype: ``float32``, ``bfloat16`` or ``float16``; also the codec's name.

    Raises:
        ThinwireError: ``dtype`` is none of them.
    """

    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in _DTYPES:
            raise ThinwireError(f"There is no float codec {self.dtype!r}; choose one of {', '.join(_DTYPES)}.")

    @property
    def name(self) -> str:
        """The type's name."""
        return self.dtype

    def encode(self, params: CodecParams, x_TD: FloatArray[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns ``{"values": (T, D)}`` in the codec's type."""
        del params, known
        dtype = _DTYPES[self.dtype]
        x_TD = x_TD.astype(jnp.float32)
        if self.dtype == "float16":
            top = jnp.finfo(jnp.float16).max.astype(jnp.float32)
            x_TD = jnp.clip(x_TD, -top, top)
        return {"values": x_TD.astype(dtype)}

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> FloatArray[Array, "T D"]:
        """Returns the values as float32, shape ``(tokens, dim)``."""
        del params, known
        return payload["values"].reshape(tokens, dim).astype(jnp.float32)

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: tokens · dim · bytes a value."""
        return tokens * dim * jnp.dtype(_DTYPES[self.dtype]).itemsize

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: dim · bits a value."""
        return 8.0 * self.payload_bytes(1, dim)

    def options(self) -> dict[str, Any]:
        """None: the name says it all."""
        return {}
