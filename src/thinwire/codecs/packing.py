"""Bit packing: codes of 1 to 16 bits laid end to end, so that 1024 codewords cost 10 bits and not 16.

The order is little-endian: code ``i`` fills bits ``i * bits`` to ``(i + 1) * bits - 1`` of the stream, its lowest bit
first, and bit ``b`` of the stream is bit ``b % 8`` of byte ``b // 8``. Unused bits of the last byte are zero.

``8 / gcd(bits, 8)`` codes fill a whole number of bytes, so each byte of such a group is a few shifts that are known
when the program is traced; nothing is ever spread out to one value a bit.

Digits of a base that is no power of two are first combined to words of at most 16 bits (mixed radix).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Integer, UInt8

MAX_BITS = 16


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` codes of ``bits`` bits take: ⌈count · bits / 8⌉."""
    return -(-count * bits // 8)


def _group(bits: int) -> tuple[int, int]:
    """Returns how many codes of ``bits`` bits fill how many whole bytes."""
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"codes have 1 to {MAX_BITS} bits, not {bits}")
    codes = 8 // math.gcd(bits, 8)
    return codes, codes * bits // 8


def _overlaps(shift: int, bits: int) -> bool:
    """Whether a code of ``bits`` bits that starts ``shift`` bits after a byte's start shares a bit with the byte."""
    return -bits < shift < 8


@functools.partial(jax.jit, static_argnames="bits", inline=True)
def pack_bits(codes: Integer[Array, "n"], bits: int) -> UInt8[Array, "packed"]:
    """Packs ``n`` codes into exactly ``packed_bytes(n, bits)`` bytes.

    Args:
        codes: the codes, each below ``2 ** bits``; higher bits are dropped.
        bits: bits a code, 1 to 16, known when traced.

    Raises:
        ValueError: ``bits`` is out of range.
    """
    n = codes.shape[0]
    group, group_bytes = _group(bits)
    groups = -(-n // group)
    low = jnp.uint32((1 << bits) - 1)
    grouped = jnp.pad(codes.astype(jnp.uint32) & low, (0, groups * group - n)).reshape(groups, group)
    columns = []
    for j in range(group_bytes):
        byte = jnp.zeros((groups,), jnp.uint32)
        for i in range(group):
            shift = i * bits - 8 * j
            if _overlaps(shift, bits):
                code = grouped[:, i]
                byte = byte | (code << jnp.uint32(shift) if shift >= 0 else code >> jnp.uint32(-shift))
        columns.append(byte.astype(jnp.uint8))
    return jnp.stack(columns, axis=-1).reshape(groups * group_bytes)[: packed_bytes(n, bits)]


@functools.partial(jax.jit, static_argnames=("bits", "count"), inline=True)
def unpack_bits(packed: UInt8[Array, "packed"], bits: int, count: int) -> Int32[Array, "n"]:
    """Returns the ``count`` codes that ``pack_bits`` packed, as int32 (ready to gather with).

    Args:
        packed: ``packed_bytes(count, bits)`` bytes.
        bits: bits a code, 1 to 16, known when traced.
        count: codes to read, known when traced.

    Raises:
        ValueError: ``bits`` is out of range, or ``packed`` has another number of bytes than ``count`` codes fill.
    """
    group, group_bytes = _group(bits)
    if packed.shape[0] != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits fill {packed_bytes(count, bits)} bytes, but there are {packed.shape[0]}"
        )
    groups = -(-count // group)
    grouped = jnp.pad(packed, (0, groups * group_bytes - packed.shape[0])).reshape(groups, group_bytes)
    grouped = grouped.astype(jnp.uint32)
    low = jnp.uint32((1 << bits) - 1)
    columns = []
    for i in range(group):
        code = jnp.zeros((groups,), jnp.uint32)
        for j in range(group_bytes):
            shift = i * bits - 8 * j
            if _overlaps(shift, bits):
                byte = grouped[:, j]
                code = code | (byte >> jnp.uint32(shift) if shift >= 0 else byte << jnp.uint32(-shift))
        columns.append((code & low).astype(jnp.int32))
    return jnp.stack(columns, axis=-1).reshape(groups * group)[:count]


def _word(base: int) -> tuple[int, int]:
    """Returns how many digits of ``base`` share a word of how many bits: the fewest bits a digit, then digits."""
    if not 2 <= base <= 1 << MAX_BITS:
        raise ValueError(f"digits have a base of 2 to {1 << MAX_BITS}, not {base}")
    fit = [n for n in range(1, MAX_BITS + 1) if base**n <= 1 << MAX_BITS]
    bits = {n: (base**n - 1).bit_length() for n in fit}
    digits = min(fit, key=lambda n: (bits[n] / n, n))
    return digits, bits[digits]


def digit_bits(base: int) -> float:
    """Bits that a digit of ``base`` costs in a long stream: log2 base for powers of two, else at most 9 % more."""
    digits, bits = _word(base)
    return bits / digits


def digit_bytes(count: int, base: int) -> int:
    """Bytes that ``count`` digits of ``base`` take: those of the words that hold them, the last one maybe not full."""
    digits, bits = _word(base)
    return packed_bytes(-(-count // digits), bits)


def pack_digits(codes: Integer[Array, "n"], base: int) -> UInt8[Array, "packed"]:
    """Packs ``n`` digits below ``base`` into exactly ``digit_bytes(n, base)`` bytes, the first digit lowest."""
    digits, bits = _word(base)
    words = -(-codes.shape[0] // digits)
    padded = jnp.pad(codes.astype(jnp.int32), (0, words * digits - codes.shape[0])).reshape(words, digits)
    return pack_bits(jnp.sum(padded * base ** jnp.arange(digits, dtype=jnp.int32)[None], axis=1), bits)


def unpack_digits(packed: UInt8[Array, "packed"], base: int, count: int) -> Int32[Array, "n"]:
    """Returns the ``count`` digits that ``pack_digits`` packed."""
    digits, bits = _word(base)
    words = unpack_bits(packed, bits, -(-count // digits))
    return (words[:, None] // base ** jnp.arange(digits, dtype=jnp.int32)[None] % base).reshape(-1)[:count]
