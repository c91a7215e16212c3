"""A payload as one message: its arrays, bit for bit, in one buffer, so that a collective sends once."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from thinwire.codecs.base import Payload


def join(payload: Payload) -> jax.Array:
    """One array that carries all arrays of ``payload``; a single array keeps its shape and, if it can, its type."""
    leaves = [payload[name] for name in sorted(payload)]
    if len(leaves) == 1:
        return _sendable(leaves[0])
    return jnp.concatenate([_as_bytes(leaf) for leaf in leaves])


def part(message: jax.Array, like: Mapping[str, jax.Array | jax.ShapeDtypeStruct]) -> Payload:
    """The payload in ``message``; ``like`` gives the names, shapes and types (arrays or their shape structs)."""
    names = sorted(like)
    if len(names) == 1:
        dtype = like[names[0]].dtype
        return {names[0]: message if message.dtype == dtype else lax.bitcast_convert_type(message, dtype)}
    payload, start = {}, 0
    for name in names:
        shape, dtype = like[name].shape, like[name].dtype
        size = math.prod(shape) * dtype.itemsize
        raw = message[start : start + size]
        if dtype != jnp.uint8:
            raw = lax.bitcast_convert_type(raw.reshape(-1, dtype.itemsize), dtype)
        payload[name] = raw.reshape(shape)
        start += size
    return payload


def size_bytes(message) -> int:
    """Bytes of a message on the wire."""
    return math.prod(message.shape) * message.dtype.itemsize


def _sendable(leaf):
    # XLA may widen 16-bit floats inside collectives; the same bits as integers are left alone.
    return lax.bitcast_convert_type(leaf, jnp.uint16) if leaf.dtype in (jnp.bfloat16, jnp.float16) else leaf


def _as_bytes(leaf):
    return leaf.reshape(-1) if leaf.dtype == jnp.uint8 else lax.bitcast_convert_type(leaf, jnp.uint8).reshape(-1)
