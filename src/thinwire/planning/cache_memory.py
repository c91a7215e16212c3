"""What the keys and values of a prompt and its continuation take on a device, by formula."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from thinwire.engine import Engine
from thinwire.strategies.sequence import Sequence

POSITION_BYTES = 4


@dataclasses.dataclass(frozen=True)
class CacheMemory:
    """Bytes of one device's cache, empty rows for what is still to come included; None where a way is impossible.

    All but the first two are in the engine's type of computation. A device of ``all`` is counted with the padding to
    the longest device.
    """

    single_float32: int  # the single device
    single_bfloat16: int
    one: int  # decoding 'one': every row decoded
    one_coded: int | None  # decoding 'one:coded': own rows and their halo, and the payloads of the others
    all: int | None  # decoding 'all': own rows
    codebooks: int  # the codec's learnt arrays, float32, which the prefill needs on every device anyway

    def of(self, decode: str) -> int | None:
        """The bytes of a way of decoding, by its name."""
        return {"one": self.one, "one:coded": self.one_coded}.get(decode, self.all)


def cache_memory(engine: Engine, prompt: int, new: int) -> CacheMemory:
    """The bytes for a prompt and a continuation of so many tokens."""
    dims, strategy, layout = engine.dims, engine.strategy, engine.layout(prompt)

    def rows(count: int, dtype: str = engine.dtype) -> int:
        row = dims.site_dim("kv") * jnp.dtype(dtype).itemsize + POSITION_BYTES
        return dims.layers * count * row

    coded = None
    seen = layout.tokens
    if isinstance(strategy, Sequence):
        site = strategy.sites(dims)[0]
        payload = sum(strategy.codec.payload_bytes(b - a, dims.site_dim(site)) for a, b in strategy.cuts(layout))
        others = dims.layers * (layout.devices - 1) * payload
        work = strategy.work(engine.setting(prompt)).positions_NW.shape[1]
        coded = rows(layout.shared + work + new) + others
        seen = layout.shared + layout.devices * layout.rows
    share = -(-new // layout.devices)
    return CacheMemory(
        single_float32=rows(prompt + new, "float32"),
        single_bfloat16=rows(prompt + new, "bfloat16"),
        one=rows(seen + new),
        one_coded=coded,
        all=rows(layout.shared + layout.rows + share) if strategy.splits_tokens else None,
        codebooks=held_bytes(engine.codecs),
    )


def held_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, as one device holds them if none is split."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
