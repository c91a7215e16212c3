"""Attention to coded rows without decoding them all: a row's score is looked up by its codes, not computed.

Two exact forms, both of which end in matrix products that a CPU and an accelerator are good at:

- *Merged keys*: where one code names a whole key of a head, all rows with that code have the same score. So they are
  one key, whose value is the mean of theirs and whose score has the logarithm of their number added: S rows become at
  most C.
- *Tables*: where a key has several codes, the scores of a query with the C codewords of each piece are computed once,
  a row's score is the sum of the entries that its codes name, and the weights are added up by value code before the
  codewords are multiplied by them, once. Naming is a product with rows of ones and zeros: on a CPU it takes half the
  time of gathering for 16 codewords, and adding up by scatters more still.

Neither is for keys that are rotated by their positions.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from thinwire.attention.coded import Coded
from thinwire.attention.partial import NEVER, Partial, partial_attention


def decoded_flops(coded: Coded, T: int, H: int) -> float:
    """FLOPs of T queries of H heads against the rows, decoded."""
    _, n, S = coded.key_codes_KnS.shape
    return 4.0 * T * H * S * n * coded.key_book_KnCe.shape[-1]


def merged_flops(coded: Coded, T: int, H: int) -> float:
    """FLOPs of the same by merged keys; infinite where a key of a head has several codes."""
    _, n, C, e = coded.key_book_KnCe.shape
    return 4.0 * T * H * C * e if n == 1 else float("inf")


def table_flops(coded: Coded, T: int, H: int) -> float:
    """FLOPs of the same by tables: tables, two products with ones and zeros, the codewords by their weights."""
    _, n, S = coded.key_codes_KnS.shape
    C, e = coded.key_book_KnCe.shape[2:]
    return 4.0 * T * H * n * C * (e + S)


def best_form(coded: Coded, T: int, H: int) -> str:
    """``merged``, ``tables`` or ``decoded``: the form of fewest FLOPs."""
    flops = {"merged": merged_flops, "tables": table_flops, "decoded": decoded_flops}
    return min(reversed(flops), key=lambda form: flops[form](coded, T, H))


def table_attention(
    q_THd: Float[Array, "T H d"], coded: Coded, visible_S: Bool[Array, " S"] | None, scale: float
) -> Partial:
    """Attention to coded rows by tables, as ``partial_attention`` gives it for the rows decoded."""
    T, H, d = q_THd.shape
    K, n, C, e = coded.key_book_KnCe.shape
    q_TKgne = q_THd.astype(jnp.float32).reshape(T, K, H // K, n, e)
    table_TKgnC = jnp.einsum("tkgne,knce->tkgnc", q_TKgne, coded.key_book_KnCe.astype(jnp.float32))
    name = lambda codes_KnS: jax.nn.one_hot(codes_KnS, C).transpose(2, 0, 1, 3).reshape(-1, K, n * C)
    weights = partial_attention(
        table_TKgnC.reshape(T, H, n * C),
        name(coded.key_codes_KnS),
        name(coded.value_codes_KnS),
        visible_S,
        scale,
        precision=lax.Precision.HIGHEST,  # the names are exact, and entries of the tables should stay so
    )
    by_code_TKgnC = weights.out_THd.reshape(T, K, H // K, n, C)
    out_TKgne = jnp.einsum("tkgnc,knce->tkgne", by_code_TKgnC, coded.value_book_KnCe.astype(jnp.float32))
    return weights._replace(out_THd=out_TKgne.reshape(T, H, d))


def merged_keys(
    coded: Coded, visible_S: Bool[Array, " S"] | None
) -> tuple[Float[Array, "C K d"], Float[Array, "C K d"], Float[Array, "C K"]]:
    """The rows as one key a codeword, their mean value, and what is added to its score: ln of how many there are.

    Raises:
        ValueError: a key of a head has several codes.
    """
    K, n, S = coded.key_codes_KnS.shape
    if n != 1:
        raise ValueError(f"a key has {n} codes, and rows that share one of them do not share their score")
    C = coded.key_book_KnCe.shape[2]
    _, v_SKd = coded.decoded()
    one_S = jnp.ones(S) if visible_S is None else visible_S.astype(jnp.float32)
    row_SK, head_1K = coded.key_codes_KnS[:, 0].T, jnp.arange(K)[None]
    count_CK = jnp.zeros((C, K)).at[row_SK, head_1K].add(one_S[:, None])
    sum_CKd = jnp.zeros((C, *v_SKd.shape[1:])).at[row_SK, head_1K].add(v_SKd * one_S[:, None, None])
    k_CKd = coded.key_book_KnCe[:, 0].swapaxes(0, 1)
    mean_CKd = sum_CKd / jnp.maximum(count_CK, 1.0)[..., None]
    return k_CKd, mean_CKd, jnp.where(count_CK > 0, jnp.log(jnp.maximum(count_CK, 1.0)), NEVER)


def with_scores(
    q_THd: Float[Array, "T H d"], k_SKd: Float[Array, "S K d"], added_SK: Float[Array, "S K"], scale: float
) -> tuple[Float[Array, "T H c"], Float[Array, "S K c"]]:
    """Queries and keys whose products are ``scale`` times those of the given ones, plus ``added_SK``.

    That takes two values more: what is added, and what a type of fewer bits has lost of it.
    """
    one_TH1 = jnp.ones((*q_THd.shape[:2], 1), q_THd.dtype)
    first_SK = added_SK.astype(k_SKd.dtype)
    rest_SK = (added_SK - first_SK.astype(jnp.float32)).astype(k_SKd.dtype)
    q_THd = (q_THd.astype(jnp.float32) * scale).astype(q_THd.dtype)
    return (
        jnp.concatenate([q_THd, one_TH1, one_TH1], axis=2),
        jnp.concatenate([k_SKd, first_SK[..., None], rest_SK[..., None]], axis=2),
    )


def merged_attention(
    q_THd: Float[Array, "T H d"],
    k_SKd: Float[Array, "S K d"],
    v_SKd: Float[Array, "S K d"],
    visible_S: Bool[Array, " S"] | None,
    coded: Coded,
    visible_R: Bool[Array, " R"] | None,
    scale: float,
) -> Partial:
    """Attention to S exact rows and to R coded ones by merged keys; of every query some key must be visible."""
    k_CKd, v_CKd, added_CK = merged_keys(coded, visible_R)
    added_SK = jnp.zeros(k_SKd.shape[:2])
    if visible_S is not None:
        added_SK = jnp.where(visible_S[:, None], added_SK, NEVER)
    k_AKd, v_AKd = (jnp.concatenate([a, b.astype(a.dtype)]) for a, b in ((k_SKd, k_CKd), (v_SKd, v_CKd)))
    q_THc, k_AKc = with_scores(q_THd, k_AKd, jnp.concatenate([added_SK, added_CK]), scale)
    return partial_attention(q_THc, k_AKc, v_AKd, None, 1.0)
