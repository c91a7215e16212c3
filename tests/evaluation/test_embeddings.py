"""Sentence embeddings by strategy, on a tiny BERT."""

import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.evaluation.embeddings import closeness, compare_embeddings, sentence_embedding, spearman
from thinwire.strategies import parse_strategies


def test_an_embedding_is_the_mean_token_of_length_one():
    features_TD = np.array([[3.0, 0.0], [3.0, 8.0]], np.float32)
    np.testing.assert_allclose(sentence_embedding(features_TD), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 1000], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 − 6·4 / (5·24)
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486833),  # ties at their mean rank
    ],
)
def test_rank_correlation(a, b, expected):
    assert spearman(np.array(a, float), np.array(b, float)) == pytest.approx(expected)


def test_rank_correlation_of_what_does_not_vary_is_not_a_number():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_the_same_embeddings_are_as_near_as_can_be():
    rows_SD = np.random.default_rng(0).standard_normal((6, 5))
    rows_SD = (rows_SD / np.linalg.norm(rows_SD, axis=1, keepdims=True)).astype(np.float32)
    found = closeness(rows_SD, rows_SD)
    assert found == pytest.approx({"mean_cosine": 1, "lowest_cosine": 1, "rank_correlation": 1})
    other = closeness(rows_SD[::-1], rows_SD)
    assert other["mean_cosine"] < 0.9


def test_strategies_side_by_side():
    model, told = tiny.model("bert"), []
    windows_WT = np.stack([tiny.ids(13, seed) for seed in range(5)])
    strategies = parse_strategies("single,sequence:float32,sequence:int2:site=kv")
    rows = compare_embeddings(model, strategies, 3, windows_WT, lambda _: {}, progress=told.append)
    single, exact, coarse = rows
    assert [row["strategy"] for row in rows] == [strategy.spec() for strategy in strategies]
    assert (single["devices"], exact["devices"]) == (1, 3)
    assert single["mean_cosine"] == pytest.approx(1)
    assert exact["lowest_cosine"] == pytest.approx(1, abs=1e-6)
    assert exact["rank_correlation"] == pytest.approx(1)
    assert 0.5 < coarse["lowest_cosine"] <= coarse["mean_cosine"] < 0.9999
    assert 0 < coarse["bits_per_token_per_layer"] < exact["bits_per_token_per_layer"]
    assert told == [spec for spec in ("single", *(s.spec() for s in strategies[1:])) for _ in range(5)]


def test_what_embeds_nothing_is_refused():
    windows_WT = np.stack([tiny.ids(13, seed) for seed in range(5)])
    with pytest.raises(ThinwireError, match="tiny gives no features of text"):
        compare_embeddings(tiny.model("gpt2"), [], 1, windows_WT, lambda _: {})
    with pytest.raises(ThinwireError, match="2 texts make too few pairs"):
        compare_embeddings(tiny.model("bert"), [], 1, windows_WT[:2], lambda _: {})
