"""Attention to codes as they are, in JAX, against attention to decoded rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.coded_rows import SCALE, assert_same, case, decoded_attention
from thinwire.attention import code_table
from thinwire.attention.coded import coded
from thinwire.attention.partial import NEVER, finish, merge, partial_attention
from thinwire.codecs.vq import lookup


@jax.jit
def by_tables(one, visible_R):
    return code_table.table_attention(one.q_THd, one.coded, visible_R, SCALE)


@jax.jit
def merged(one, visible_S, visible_R):
    return code_table.merged_attention(one.q_THd, one.k_SKd, one.v_SKd, visible_S, one.coded, visible_R, SCALE)


@jax.jit
def _theirs(one, visible_R):
    """Attention to the coded rows, decoded."""
    return partial_attention(one.q_THd, *one.decoded, visible_R, SCALE)


@jax.jit
def _all(one, visible_S, visible_R):
    """Attention to everything, decoded."""
    return partial_attention(
        one.q_THd,
        *(jnp.concatenate(parts) for parts in zip((one.k_SKd, one.v_SKd), one.decoded, strict=True)),
        jnp.concatenate([visible_S, visible_R]),
        SCALE,
    )


# Groups of 3 of 2·2·6 values: 1 lies in all heads, 3 and 8 lie across the ends of heads.
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8, 12, 24])
def test_pieces_of_heads_decode_to_the_rows(groups):
    rng = np.random.default_rng(0)
    codebook = jnp.asarray(rng.normal(size=(groups, 5, 24 // groups)), jnp.float32)
    codes_SG = jnp.asarray(rng.integers(0, 5, (7, groups)), jnp.int32)
    k_SKd, v_SKd = coded(codebook, codes_SG, 2, 6).decoded()
    expected = lookup(codebook, codes_SG).reshape(7, 4, 6)
    assert (jnp.concatenate([k_SKd, v_SKd], axis=1) == expected).all()


def test_a_codebook_of_another_width_is_refused():
    with pytest.raises(ValueError, match="3 groups of 5 values are no keys and values of 2 heads of 4"):
        coded(jnp.zeros((3, 2, 5)), jnp.zeros((1, 3), jnp.int32), 2, 4)


@settings(max_examples=6, deadline=None)
@given(
    shape=st.sampled_from([(1, 7), (2, 40), (4, 16), (16, 5), (32, 2)]),
    rows=st.sampled_from([(1, 3, 5), (9, 0, 50)]),
    seed=st.integers(0, 2**31),
)
def test_tables_are_attention_to_decoded_rows(shape, rows, seed):
    one = case(*shape, *rows, seed)
    visible_R = jnp.asarray(np.random.default_rng(seed).random(rows[2]) < 0.5)
    found = by_tables(one, visible_R)
    assert_same(found, _theirs(one, visible_R))


def test_tables_without_anything_hidden():
    one = case(4, 6, 9, 0, 30)
    everywhere = one._replace(reach_T=jnp.full(9, 99))
    assert_same(by_tables(one, None), decoded_attention(everywhere))


@settings(max_examples=6, deadline=None)
@given(
    shape=st.sampled_from([(1, 7), (2, 40), (4, 3)]),
    rows=st.sampled_from([(1, 3, 5), (9, 20, 50)]),
    seed=st.integers(0, 2**31),
)
def test_merged_keys_are_attention_to_decoded_rows(shape, rows, seed):
    one = case(*shape, *rows, seed)
    rng = np.random.default_rng(seed)
    visible_S, visible_R = (jnp.asarray(rng.random(count) < 0.6) for count in rows[1:])
    visible_S = visible_S.at[0].set(True)
    found = merged(one, visible_S, visible_R)
    np.testing.assert_allclose(finish(found), finish(_all(one, visible_S, visible_R)), rtol=1e-5, atol=1e-5)


def test_merged_keys_merge_with_other_parts():
    one = case(4, 6, 9, 20, 30)
    nothing = one.k_SKd[:0]
    theirs = merged(one._replace(k_SKd=nothing, v_SKd=nothing), None, None)
    own = partial_attention(one.q_THd, one.k_SKd, one.v_SKd, None, SCALE)
    expected = finish(_all(one, jnp.ones(20, bool), jnp.ones(30, bool)))
    np.testing.assert_allclose(finish(merge(own, theirs)), expected, rtol=1e-5, atol=1e-5)


def test_codewords_that_nobody_has_take_no_part():
    one = case(4, 6, 9, 20, 30)
    k_CKd, v_CKd, added_CK = code_table.merged_keys(one.coded, jnp.arange(30) == 3)
    assert k_CKd.shape == v_CKd.shape == (6, 2, 8)
    assert ((added_CK == 0).sum(axis=0) == 1).all()  # ln 1, of the one row that is seen
    assert ((added_CK == NEVER).sum(axis=0) == 5).all()


def test_rows_of_a_whole_group_are_counted_exactly_in_bfloat16():
    """3000 equal rows beside one own row: their number must not be rounded to 8 bits."""
    q, own = jnp.zeros((1, 1, 4), jnp.bfloat16), jnp.ones((1, 1, 4), jnp.bfloat16)
    codebook = jnp.zeros((2, 2, 4))
    theirs = coded(codebook, jnp.zeros((3000, 2), jnp.int32), 1, 4)
    found = finish(code_table.merged_attention(q, own, own, None, theirs, None, 1.0))
    # Half a unit in the last place of the one weight; ln 3000 rounded to 8 bits alone would be 3 times as far.
    np.testing.assert_allclose(found, jnp.full((1, 1, 4), 1 / 3001), rtol=2.0**-9)


def test_keys_of_several_codes_cannot_be_merged():
    with pytest.raises(ValueError, match="a key has 4 codes"):
        code_table.merged_keys(case(16, 5, 1, 1, 9).coded, None)
    assert code_table.merged_flops(case(16, 5, 1, 1, 9).coded, 1, 4) == float("inf")


@pytest.mark.parametrize(
    ("groups", "size", "remote", "form"),
    [(4, 16, 17, "merged"), (4, 16, 16, "decoded"), (8, 2, 50, "tables"), (8, 4, 50, "decoded"), (4, 16, 0, "decoded")],
)
def test_the_form_of_fewest_operations_is_taken(groups, size, remote, form):
    assert code_table.best_form(case(groups, size, 3, 5, remote).coded, 3, 4) == form


@pytest.mark.parametrize("form", ["decoded", "merged", "tables"])
def test_flops_are_those_of_the_program(form):
    """Of its matrix products, which are all that is counted."""
    queries = 16  # few enough for one product without a loop
    one = case(4, 16, queries, 0, 200)
    run = {
        "decoded": lambda: _theirs(one, None).out_THd,
        "merged": lambda: merged(one, None, None).out_THd,
        "tables": lambda: by_tables(one, None).out_THd,
    }[form]
    products = 0.0
    for equation in _products(jax.make_jaxpr(run)().jaxpr):
        (contract, _), _ = equation.params["dimension_numbers"]
        contracted = np.prod([equation.invars[0].aval.shape[axis] for axis in contract])
        products += 2.0 * float(contracted) * equation.outvars[0].aval.size
    flops = getattr(code_table, f"{form.removesuffix('s')}_flops")(one.coded, queries, 4)
    # What is added to the scores takes two values more than 8 in the first of two products.
    assert products == pytest.approx(flops * (1.125 if form == "merged" else 1))


def _products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from _products(inner)
