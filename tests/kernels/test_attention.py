"""Both attention kernels, interpreted, against attention to decoded rows. They have no gradient, so none is tested."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.coded_rows import HEADS, SCALE, WIDTH, Case, assert_same, case, decoded_attention
from thinwire.attention.partial import Partial, finish, merge, nothing, partial_attention
from thinwire.kernels.code_table import table_attention
from thinwire.kernels.mixed import mixed_attention

# (groups, size): one group of all heads; a group for keys and one for values; one a head; several a head.
SHAPES = [(1, 7), (2, 40), (4, 16), (16, 5)]
ROWS = [(1, 3, 5), (70, 33, 130), (5, 0, 64), (64, 65, 0)]


@functools.partial(jax.jit, static_argnums=1)
def mixed(one: Case, decoding=None):
    own = (one.k_SKd, one.v_SKd, one.position_S)
    return mixed_attention(one.q_THd, one.reach_T, *own, *one.coded, one.position_R, SCALE, decoding)


@jax.jit
def by_tables(one: Case):
    return table_attention(one.q_THd, one.reach_T, *one.coded, one.position_R, SCALE)


@pytest.mark.parametrize("decoding", ["gather", "multiply"])
@pytest.mark.parametrize(("groups", "size"), SHAPES)
def test_mixed_attention_is_attention_to_decoded_rows(groups, size, decoding):
    one = case(groups, size, 70, 33, 130)
    found = mixed(one, decoding)
    assert_same(found, decoded_attention(one))


@pytest.mark.parametrize("rows", ROWS)
def test_any_number_of_rows(rows):
    one = case(4, 6, *rows)
    assert_same(mixed(one), decoded_attention(one))
    assert_same(by_tables(one), decoded_attention(one, own=False) if rows[2] else nothing(rows[0], HEADS, WIDTH))


@pytest.mark.parametrize(("groups", "size"), SHAPES)
def test_code_tables_are_attention_to_decoded_rows(groups, size):
    one = case(groups, size, 70, 0, 130)
    found = by_tables(one)
    assert_same(found, decoded_attention(one))


def test_parts_of_a_kernel_merge_with_other_parts():
    one = case(4, 6, 9, 20, 30)
    visible_TS = one.position_S[None] <= one.reach_T[:, None]
    own = partial_attention(one.q_THd, one.k_SKd, one.v_SKd, visible_TS, SCALE)
    theirs = Partial(*by_tables(one))
    np.testing.assert_allclose(finish(merge(own, theirs)), finish(decoded_attention(one)), rtol=1e-5, atol=1e-5)


def test_a_query_that_sees_no_key_gets_nothing():
    one = case(4, 6, 3, 5, 7)
    found = mixed(one._replace(reach_T=jnp.full(3, -1)))
    assert (Partial(*found).out_THd == 0).all()
    assert (Partial(*found).sum_TH == 0).all()


def test_bfloat16_rows_are_multiplied_as_such():
    one = case(4, 6, 9, 20, 30, dtype=jnp.bfloat16)
    found = mixed(one)
    # Weights are rounded to 8 bits, relative to the largest score of a tile and not of all.
    np.testing.assert_allclose(finish(Partial(*found)), finish(decoded_attention(one)), atol=0.02)


@pytest.mark.parametrize("kernel", ["mixed", "table"])
def test_mapped_over_devices_it_is_the_same(kernel):
    cases = [case(4, 6, 9, 5, 11, seed) for seed in range(2)]
    run = {"mixed": mixed, "table": by_tables}[kernel]
    mapped = jax.vmap(run)(jax.tree.map(lambda *x: jnp.stack(x), *cases))
    for n, one in enumerate(cases):
        assert_same(jax.tree.map(lambda x, n=n: x[n], mapped), decoded_attention(one, own=kernel == "mixed"))
