import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.errors import ThinwireError
from thinwire.sampling import Sampling, choose, nucleus

LOGITS = np.array([1.0, 3.0, 2.0, 3.0, -5.0, 0.5], np.float32)
pick = jax.jit(choose)
kept_of = jax.jit(nucleus)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=8, max_size=8),
    st.floats(1 / 64, 1.0, width=32),
)
def test_the_nucleus_is_the_smallest_set(logits, top_p):
    logits_V = np.array(logits, np.float32)
    kept_V = np.asarray(kept_of(logits_V, np.float32(top_p)))
    p_V = np.exp(logits_V.astype(float) - logits_V.max())
    p_V /= p_V.sum()
    assert kept_V[logits_V.argmax()]
    assert p_V[kept_V].sum() >= top_p - 1e-5
    assert p_V[kept_V].sum() - p_V[kept_V].min() < top_p + 1e-5  # without its least likely it is too little
    if not kept_V.all():
        assert logits_V[kept_V].min() >= logits_V[~kept_V].max()


def test_of_equal_tokens_the_first_is_kept_and_all_at_one():
    assert np.flatnonzero(kept_of(LOGITS, np.float32(0.2))).tolist() == [1]
    far = np.array([60.0, 0.0, -60.0], np.float32)  # a sum in float32 is 1 after the first
    assert kept_of(far, np.float32(1.0)).all()


def test_draws_follow_the_probabilities():
    sampling = Sampling(temperature=2.0, top_p=0.8, seed=5)
    drawn = np.array([int(pick(LOGITS, sampling.draw(n))) for n in range(400)])
    p_V = np.exp(LOGITS / 2) / np.exp(LOGITS / 2).sum()
    kept_V = np.asarray(kept_of(LOGITS / 2, np.float32(0.8)))
    share_V = np.bincount(drawn, minlength=6) / 400
    np.testing.assert_allclose(share_V, np.where(kept_V, p_V / p_V[kept_V].sum(), 0), atol=0.08)
    again = [int(pick(LOGITS, Sampling(2.0, 0.8, 5).draw(n))) for n in range(20)]
    assert again == drawn[:20].tolist()
    assert again != [int(pick(LOGITS, Sampling(2.0, 0.8, 6).draw(n))) for n in range(20)]


def test_cold_is_greedy():
    distinct = LOGITS + np.arange(6, dtype=np.float32) / 10
    for temperature in (0.0, 1e-42, 1e-37, 1e-9, 1e-3):
        draws = [Sampling(temperature, seed=s).draw(3) for s in range(4)]
        assert [int(pick(distinct, draw)) for draw in draws] == [3] * 4, temperature
    assert Sampling().draw(0) is None
    assert int(choose(jnp.asarray(LOGITS), None)) == 1  # the lowest id of equal ones


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 0.0}, "top-p is 0.0"),
        ({"top_p": 1.01}, "top-p is 1.01"),
        ({"top_p": math.nan}, "top-p is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_impossible_values_are_one_sentence(options, says):
    with pytest.raises(ThinwireError, match=says) as caught:
        Sampling(**options)
    assert str(caught.value).endswith(".")
