"""Perplexity against bits: what the rows say, and that a run goes on where it was broken off."""

import dataclasses
import math

import jax
import numpy as np
import pytest

import tiny
from thinwire.evaluation.quality import BASE, measure_quality, quality_rows
from thinwire.strategies import parse_strategies

SPECS = "sequence:drop,sequence:float32,sequence:vq:groups=6:size=16"
STRATEGIES = parse_strategies(SPECS)
WINDOWS = np.stack([tiny.ids(21, seed) for seed in (3, 4, 5)])


class KilledError(Exception):
    pass


def measure(**given):
    return measure_quality(
        tiny.model(), STRATEGIES, 3, WINDOWS, lambda s: tiny.codebooks(s, tiny.dims()), (2.0, 1.0, 1.0), **given
    )


@pytest.fixture(scope="module")
def found():
    saved = []
    result = measure(save=lambda found: saved.append({spec: len(of) for spec, of in found.items()}))
    assert [set(sizes.values()) for sizes in saved] == [{1}, {2}, {3}]  # after every window
    return result


def test_rows(found):
    dropped, exact, coded = quality_rows(tiny.dims(), STRATEGIES, found, "sequence:drop")
    assert dropped["bits_per_token_per_layer"] == 0
    assert dropped["compression"] == math.inf
    assert dropped["context_kept"] == pytest.approx(0)
    assert exact["perplexity_ratio"] == pytest.approx(1, abs=1e-5)
    assert exact["context_kept"] == pytest.approx(1, abs=1e-3)
    assert exact["compression"] == 1
    assert coded["bits_per_token_per_layer"] == 24
    assert coded["compression"] == 32 * 48 / 24
    assert coded["kl_to_single"] > 1e-4
    assert coded["windows"] == 3
    assert coded["preset"] is None
    kept = 1 - math.log(coded["perplexity_ratio"]) / math.log(dropped["perplexity_ratio"])
    assert coded["context_kept"] == pytest.approx(kept)


def test_it_goes_on_where_it_was(found):
    states = []

    def kill(state):
        states.append({spec: list(of) for spec, of in state.items()})
        if len(states) == 2:
            raise KilledError

    with pytest.raises(KilledError):
        measure(save=kill)
    done = {**states[-1], SPECS.split(",")[0]: []}  # and one strategy that was added later
    windows = []
    again = measure(done=done, progress=windows.append)
    assert again == found
    assert windows == [1, 2, 3]


def test_the_weights_before_are_measured_beside(found):
    """Trained weights are those of the model; what is told of the base is the base's."""
    params = jax.tree.map(lambda x: x * np.float32(0.9), tiny.model().params)
    base = dataclasses.replace(tiny.model(), params=params, sha256="1" * 64)
    beside = measure(base=base)
    assert {name: of for name, of in beside.items() if name != BASE} == found
    rows = quality_rows(tiny.dims(), STRATEGIES, beside, "sequence:drop")
    alone = measure_quality(base, parse_strategies("sequence:float32"), 1, WINDOWS, lambda s: {})
    wanted = quality_rows(tiny.dims(), parse_strategies("sequence:float32"), alone)[0]["perplexity"]
    assert [row["base_perplexity"] for row in rows] == [pytest.approx(wanted, rel=1e-5)] * 3
    assert wanted != pytest.approx(rows[1]["perplexity"], rel=1e-3)
    assert {row["base_perplexity"] for row in quality_rows(tiny.dims(), STRATEGIES, found)} == {None}
