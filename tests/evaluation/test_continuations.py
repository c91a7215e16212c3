"""Continuations by strategy and way of decoding, beside the single device's."""

import itertools

import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.evaluation import continuations
from thinwire.evaluation.continuations import agreement, compare_continuations, steps
from thinwire.generation import generate
from thinwire.models import llama
from thinwire.strategies import parse_strategies

PROMPTS = np.stack([tiny.ids(13, seed) for seed in range(3)])


def codecs_of(strategy):
    return tiny.codebooks(strategy, llama.dims(tiny.CONFIG))


def test_rows_are_what_generation_gives(monkeypatch):
    monkeypatch.setattr(continuations, "BATCH", 2)  # three prompts are no whole number of batches
    spec, told = "sequence:vq:groups=6:size=16", []
    rows, single_PN = compare_continuations(
        tiny.model(), parse_strategies(spec), ["all"], 2, PROMPTS, 4, codecs_of, progress=told.append
    )
    assert len(told) == steps(3, 4, 1)
    alone, coded = tiny.engine("single"), tiny.engine(spec, 2)
    assert single_PN.tolist() == [list(generate(alone, ids_T, 4)) for ids_T in PROMPTS]
    free_PN = np.array([list(generate(coded, ids_T, 4, decode="all")) for ids_T in PROMPTS])
    (row,) = rows
    assert (row["strategy"], row["decode"]) == (spec, "all")
    assert row["same_token"] == pytest.approx((free_PN == single_PN).mean())
    assert row["identical"] == pytest.approx((free_PN == single_PN).all(axis=1).mean())
    # Told the single device's tokens, the choices are the same up to the first difference at least.
    assert row["top1_told"] >= row["common_prefix"] / 4


def test_exact_strategies_agree_wholly():
    row, *_ = compare_continuations(
        tiny.model(), parse_strategies("sequence:float32"), ["one"], 2, PROMPTS[:1], 4, codecs_of
    )[0]
    assert (row["identical"], row["common_prefix"], row["same_token"], row["top1_told"]) == (1.0, 4.0, 1.0, 1.0)
    assert row["bytes_per_new_token_per_device"] == 0 < row["cache_bytes_per_device"]


def test_agreement_counts():
    single = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = agreement(np.array([[1, 2, 3, 4], [5, 0, 7, 0]]), np.array([[1, 2, 3, 0], [5, 6, 7, 8]]), single)
    assert (found.identical, found.common_prefix, found.same_token, found.top1_told) == (0.5, 2.5, 0.75, 0.875)


@pytest.mark.parametrize(
    ("specs", "decodes", "count", "says"),
    [
        ("tensor:float32", ["all"], 4, "splits heads"),
        ("sequence:float32", ["two"], 4, "no decoding 'two'"),
        ("sequence:float32", ["one"], 60, "13 prompt tokens and 60"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(specs, decodes, count, says):
    begun = itertools.count()
    with pytest.raises(ThinwireError, match=says):
        compare_continuations(
            tiny.model(), parse_strategies(specs), decodes, 2, PROMPTS, count, codecs_of, progress=lambda _: next(begun)
        )
    assert next(begun) == 0
