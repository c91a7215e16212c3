"""Keys and values of rows that are known by their codes, by head: what a kernel needs to attend to them undecoded."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32


class Coded(NamedTuple):
    """S rows of keys and values of K heads, each head's d values in n pieces that one codeword of C fills each.

    A group of the codec that lies in several heads is cut where they meet, and its pieces have the same codes; one that
    is a part of a head is a piece.
    """

    key_codes_KnS: Int32[Array, "K n S"]
    value_codes_KnS: Int32[Array, "K n S"]
    key_book_KnCe: Float[Array, "K n C e"]
    value_book_KnCe: Float[Array, "K n C e"]

    def decoded(self) -> tuple[Float[Array, "S K d"], Float[Array, "S K d"]]:
        """The rows themselves."""
        return (
            _look_up(self.key_book_KnCe, self.key_codes_KnS),
            _look_up(self.value_book_KnCe, self.value_codes_KnS),
        )


def coded(codebook: Float[Array, "G C E"], codes_SG: Int32[Array, "S G"], K: int, d: int) -> Coded:
    """Rows of the site ``kv``, keys of all heads and then values, as grouped vector quantisation has coded them."""
    G, C, E = codebook.shape
    if 2 * K * d != G * E:
        raise ValueError(f"{G} groups of {E} values are no keys and values of {K} heads of {d}")
    e = math.gcd(E, d)
    book_2KnCe = codebook.reshape(G, C, E // e, e).swapaxes(1, 2).reshape(2, K, d // e, C, e)
    codes_2KnS = jnp.repeat(codes_SG.T, E // e, axis=0).reshape(2, K, d // e, -1)
    return Coded(codes_2KnS[0], codes_2KnS[1], book_2KnCe[0], book_2KnCe[1])


def _look_up(book_KnCe, codes_KnS):
    one_piece = lambda book_Ce, codes_S: jnp.take(book_Ce, codes_S, axis=0, mode="clip")
    rows_KnSe = jax.vmap(jax.vmap(one_piece))(book_KnCe, codes_KnS)
    K, n, S, e = rows_KnSe.shape
    return rows_KnSe.transpose(2, 0, 1, 3).reshape(S, K, n * e)
