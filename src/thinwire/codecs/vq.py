"""Grouped vector quantisation: a row is cut into groups, each sent as the index of its nearest codeword."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, Integer

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.codecs.packing import MAX_BITS, pack_bits, packed_bytes, unpack_bits
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import chosen
from thinwire.kernels.ordered import ordered
from thinwire.matmul import matmul

# On a CPU a tile of scores should stay in the second-level cache: this many codewords (all groups of a tile together)
# by this many rows. Measured for width 384: 16 groups of 1024 and 64 groups of 16 are both within 10 % of their best.
_CPU_CODEWORDS = 512
_CPU_ROWS = 128
_CPU_SCORES = 1 << 17
# The nearest codewords of wide groups are looked for in a space of fewer dimensions: on keys and values of SmolLM2 (one
# group of 384) 96 of them raise the error by 0.2 to 0.7 %, and most of the search is saved.
WIDE = 512
SEARCH = 128
# An accelerator is fastest with few large tiles; 2^24 scores are 64 MiB.
_ACCELERATOR_SCORES = 1 << 24


def _tile(groups: int, size: int, cpu: bool) -> tuple[int, int]:
    """Returns (groups, rows) of one tile of scores."""
    if not cpu:
        return groups, max(1, _ACCELERATOR_SCORES // (groups * size))
    fit = max(1, _CPU_CODEWORDS // size)
    tile_groups = max(g for g in range(1, min(fit, groups) + 1) if groups % g == 0)
    rows = _CPU_SCORES // (tile_groups * size)
    return tile_groups, min(_CPU_ROWS, max(16, rows))


def _best(score_gCt: Array) -> Array:
    """The index of the largest score, by one maximum of integers.

    The index takes the place of the lowest bits, so that no second pass looks for where the largest score was.
    """
    last = score_gCt.shape[1] - 1
    low = (1 << last.bit_length()) - 1
    index = last - lax.broadcasted_iota(jnp.int32, score_gCt.shape, 1)  # the lowest index wins a tie
    return last - (jnp.max(ordered(score_gCt, index, low), axis=1) & low)


def _search_tiled(codebook: Array, x_TD: Array, tile: tuple[int, int]) -> Array:
    """Finds the nearest codewords tile by tile; rows lie along the last axis, so that reductions run over lanes."""
    G, C, E = codebook.shape
    T = x_TD.shape[0]
    tile_groups, rows = tile
    rows = max(1, min(rows, T))
    chunks, blocks = -(-T // rows), G // tile_groups
    half_norm = jnp.sum(codebook * codebook, axis=-1, keepdims=True) / 2
    x_TD = jnp.pad(x_TD, ((0, chunks * rows - T), (0, 0)))
    x_tiles = x_TD.reshape(chunks, rows, blocks, tile_groups, E).transpose(2, 0, 3, 4, 1)

    def of_block(block):
        codewords_gCE, half_norm_gC1, chunks_gEt = block

        def of_chunk(x_gEt):
            dots = jnp.einsum("gce,get->gct", codewords_gCE, x_gEt, precision=lax.Precision.HIGHEST)
            half_own_g1t = jnp.sum(x_gEt * x_gEt, axis=1, keepdims=True) / 2
            return _best(dots - half_norm_gC1 - half_own_g1t)  # minus half the squared distance

        return lax.map(of_chunk, chunks_gEt)

    codes = lax.map(
        of_block,
        (
            codebook.reshape(blocks, tile_groups, C, E),
            half_norm.reshape(blocks, tile_groups, C, 1),
            x_tiles,
        ),
    )
    return codes.transpose(1, 3, 0, 2).reshape(chunks * rows, G)[:T]


@functools.partial(jax.jit, inline=True)
def search(codebook: Float[Array, "G C E"], x_TD: Float[Array, "T D"]) -> Int32[Array, "T G"]:
    """Returns the index of the codeword nearest to each group of each row, the lowest one on a tie.

    Distances are squared Euclidean in float32, from products (``x·c - |c|²/2 - |x|²/2``), and the lowest ⌈log2 C⌉ bits
    of each make room for the index. So two codewords whose squared distances differ by less than C · 2⁻²³ of them
    (1e-4 for 1024 codewords), or by less than about 1e-7 · |c|², may change places. At most a tile of scores exists at
    a time, never all ``(T, G, C)``.

    Args:
        codebook: ``C`` codewords of ``E = D / G`` values for each of ``G`` groups.
        x_TD: the rows.
    """
    G, C, E = codebook.shape
    if x_TD.shape[1] != G * E:
        raise ValueError(f"a codebook of {G} groups of {E} values does not fit rows of {x_TD.shape[1]}")
    codebook, x_TD = codebook.astype(jnp.float32), x_TD.astype(jnp.float32)
    if x_TD.shape[0] == 0:
        return jnp.zeros((0, G), jnp.int32)
    return lax.platform_dependent(
        codebook,
        x_TD,
        cpu=lambda codebook, x_TD: _search_tiled(codebook, x_TD, _tile(G, C, cpu=True)),
        default=lambda codebook, x_TD: _search_tiled(codebook, x_TD, _tile(G, C, cpu=False)),
    )


@functools.partial(jax.jit, inline=True)
def lookup(codebook: Float[Array, "G C E"], codes_TG: Integer[Array, "T G"]) -> Float[Array, "T D"]:
    """Returns the rows that the codes name, ``D = G · E`` values each, in the codebook's type."""
    G, C, E = codebook.shape
    T = codes_TG.shape[0]
    flat = codes_TG.astype(jnp.int32) + jnp.arange(G, dtype=jnp.int32)[None, :] * C

    def at_once(codewords_ZE, flat_TG):
        return jnp.take(codewords_ZE, flat_TG, axis=0, mode="clip").reshape(T, G * E)

    def group_by_group(codewords_ZE, flat_TG):  # in a CPU's cache: twice as fast
        def step(group, x_TD):
            of_group_TE = jnp.take(codewords_ZE, flat_TG[:, group], axis=0, mode="clip")
            return lax.dynamic_update_slice(x_TD, of_group_TE, (0, group * E))

        return lax.fori_loop(0, G, step, jnp.zeros((T, G * E), codewords_ZE.dtype))

    if G == 1:
        return at_once(codebook[0], flat)
    return lax.platform_dependent(codebook.reshape(G * C, E), flat, cpu=group_by_group, default=at_once)


def _nearest(codebook: Float[Array, "G C E"], x_TD: Float[Array, "T D"]) -> Int32[Array, "T G"]:
    """``search``, by a kernel where kernels are chosen."""
    if chosen() != "pallas":
        return search(codebook, x_TD)
    # Pallas is an experiment of JAX: who does not ask for it needs none.
    from thinwire.kernels.search import search as search_by_kernel

    return search_by_kernel(codebook, x_TD)


def search_space(codebook: Float[Array, "G C E"], dims: int) -> dict[str, Array]:
    """The ``dims`` directions in which the codewords of each group differ most, and the codewords as seen along them.

    Returns:
        ``basis`` (G, E, dims), orthonormal, and ``projected`` (G, C, dims).
    """
    centred = codebook - codebook.mean(axis=1, keepdims=True)
    basis_GED = jnp.linalg.svd(centred, full_matrices=False)[2][:, :dims].swapaxes(1, 2)
    return {"basis": basis_GED, "projected": jnp.einsum("gce,ged->gcd", codebook, basis_GED)}


@dataclasses.dataclass(frozen=True)
class GroupedVQ(Codec):
    """Sends ⌈log2 size⌉ bits for each of ``groups`` equal pieces of a row.

    Params: ``{"codebook": (G, C, E) float32}``. Payload: ``{"codes": (⌈T·G·bits/8⌉,) uint8}``, no header.

    Attributes:
        groups: pieces a row is cut into; must divide its width.
        size: codewords of each group, 2 to 65536, not only powers of two.
        search: dimensions of the space in which codewords are searched, the principal ones of the codewords, which
            ``search_space`` adds to the params; fewer are faster and find a neighbour of the nearest one now and
            then. 0: all of them, exactly. Default: SEARCH where a group has more than WIDE values.

    Raises:
        ThinwireError: ``groups`` is below 1, or ``size`` or ``search`` out of range.
    """

    groups: int = 16
    size: int = 1024
    search: int = -1

    always_written: ClassVar[tuple[str, ...]] = ("groups", "size")

    def __post_init__(self):
        if self.groups < 1:
            raise ThinwireError(f"Vector quantisation needs at least 1 group, not {self.groups}.")
        if not 2 <= self.size <= 1 << MAX_BITS:
            raise ThinwireError(f"A codebook has 2 to {1 << MAX_BITS} codewords, not {self.size}.")
        if not -1 <= self.search < self.size:
            raise ThinwireError(
                f"search={self.search}: {self.size} codewords differ in fewer than {self.size} directions; take 1 to "
                f"{self.size - 1} of them, or 0 for all, or leave it out."
            )

    @property
    def name(self) -> str:
        """Always ``vq``."""
        return "vq"

    @property
    def learns(self) -> bool:
        """A codebook."""
        return True

    @property
    def bits(self) -> int:
        """Bits a code takes on the wire: ⌈log2 size⌉."""
        return (self.size - 1).bit_length()

    def check(self, dim: int) -> None:
        """Raises ThinwireError where ``groups`` does not divide ``dim``."""
        if dim % self.groups:
            fits = ", ".join(str(g) for g in range(1, dim + 1) if dim % g == 0)
            raise ThinwireError(
                f"Rows of {dim} values cannot be cut into {self.groups} equal groups; groups that fit: {fits}."
            )
        if self.search > dim // self.groups:
            raise ThinwireError(f"search={self.search} is more than the {dim // self.groups} values of a group.")

    def encode_flops(self, dim: int) -> float:
        """FLOPs of the search: a multiply-add for each value searched and codeword."""
        directions = self.directions(dim)
        return 2.0 * directions * (dim + self.size * self.groups) if directions else 2.0 * self.size * dim

    def directions(self, dim: int) -> int:
        """Dimensions of the space in which codewords of rows of ``dim`` values are searched; 0: all."""
        if self.search >= 0:
            return self.search
        return SEARCH if dim // self.groups > WIDE and self.size > SEARCH else 0

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Returns ``{"codebook": (layers, G, C, E)}`` of standard normal codewords, and their search space."""
        self.check(dim)
        shape = (layers, self.groups, self.size, dim // self.groups)
        codebook = jax.random.normal(key, shape, jnp.float32)
        return {"codebook": codebook, **jax.vmap(self.space)(codebook)}

    @property
    def factors(self) -> frozenset[str]:
        """The directions of the search space."""
        return frozenset({"basis"})

    def space(self, codebook: Float[Array, "G C E"]) -> dict[str, Array]:
        """What ``encode`` needs of a layer's codebook beside itself."""
        directions = self.directions(codebook.shape[0] * codebook.shape[2])
        return search_space(codebook, directions) if directions else {}

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns ``{"codes": ...}``, row by row, the codes of a row in the order of its groups."""
        del known
        self.check(x_TD.shape[1])
        # Sets that were learnt without a search space are searched exactly.
        if self.directions(x_TD.shape[1]) and "projected" in params:
            codes_TG = _nearest(params["projected"], self._project(params, x_TD))
        else:
            codes_TG = _nearest(params["codebook"], x_TD)
        return {"codes": pack_bits(codes_TG.reshape(x_TD.shape[0] * self.groups), self.bits)}

    def _project(self, params: CodecParams, x_TD):
        """Rows as they are in the search space."""
        x_TGE = x_TD.astype(params["basis"].dtype).reshape(x_TD.shape[0], self.groups, -1)
        # Group by group: of one product for all XLA's CPU backend copies both operands first, turned round.
        projected = [matmul(x_TGE[:, group], basis_ED) for group, basis_ED in enumerate(params["basis"])]
        return jnp.concatenate(projected, axis=1)

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the codewords that the payload names, as float32 rows."""
        del known
        self.check(dim)
        return lookup(params["codebook"].astype(jnp.float32), self.codes(payload, tokens))

    def codes(self, payload: Payload, tokens: int) -> Int32[Array, "T G"]:
        """The codes that a payload holds."""
        return unpack_bits(payload["codes"], self.bits, tokens * self.groups).reshape(tokens, self.groups)

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the payload: ⌈T · G · ⌈log2 size⌉ / 8⌉, whatever the width."""
        del dim
        return packed_bytes(tokens * self.groups, self.bits)

    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs: G · ⌈log2 size⌉."""
        del dim
        return float(self.groups * self.bits)
