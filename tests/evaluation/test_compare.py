"""Strategies side by side on a tiny model."""

import numpy as np
import pytest

import tiny
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.compare import BANDWIDTHS_MBPS, compare
from thinwire.models import llama
from thinwire.strategies import parse_strategies, parse_strategy

T, DEVICES = 21, 3
SPECS = "single,sequence:float32,sequence:vq:groups=6:size=16,tensor:int8"
SPLIT = (2.0, 1.0, 1.0)
KEYS = [
    "strategy", "codec", "preset", "devices", "tokens", "bits_per_token_per_layer", "bytes_sent_per_device",
    "messages_per_device", "perplexity", "perplexity_ratio", "standard_error", "kl_to_single", "top1_agreement",
    "max_abs_logit_difference", "windows", "emulated_compute_s", "predicted_latency_s", "predicted_speedup",
]  # fmt: skip


def codecs_of(strategy):
    return tiny.codebooks(strategy, llama.dims(tiny.CONFIG))


@pytest.fixture(scope="module")
def windows_WT():
    return np.stack([tiny.ids(T, seed) for seed in (3, 4)])


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(windows_WT, told):
    return compare(tiny.model(), parse_strategies(SPECS), DEVICES, windows_WT, codecs_of, SPLIT, progress=told.append)


@pytest.fixture(scope="module")
def rows(found):
    return {row["strategy"]: row for row in found.rows}


def test_rows_come_in_order_with_every_key(found, told):
    assert [row["strategy"] for row in found.rows] == SPECS.split(",")
    for row in found.rows:
        assert list(row) == KEYS
        assert list(row["predicted_latency_s"]) == [str(mbps) for mbps in BANDWIDTHS_MBPS]
        assert (row["tokens"], row["windows"]) == (T, 2)
        assert row["emulated_compute_s"] > 0
    assert told == ["single", *SPECS.split(","), *SPECS.split(",")]


def test_the_single_device_is_the_reference(rows):
    single = rows["single"]
    assert (single["devices"], single["codec"], single["bytes_sent_per_device"]) == (1, "-", 0)
    assert (single["perplexity_ratio"], single["kl_to_single"], single["top1_agreement"]) == (1.0, 0.0, 1.0)
    assert single["max_abs_logit_difference"] == single["standard_error"] == 0.0
    assert set(single["predicted_speedup"].values()) == {1.0}
    assert len(set(single["predicted_latency_s"].values())) == 1


def test_perplexity_is_that_of_the_windows(rows, windows_WT):
    engine = Engine(tiny.model(), parse_strategy("single"))
    surprise = []
    for ids_T in windows_WT:
        logits = engine.logits(ids_T).astype(float)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        surprise += list(-log_p[np.arange(T - 1), ids_T[1:]])
    assert rows["single"]["perplexity"] == pytest.approx(np.exp(np.mean(surprise)), rel=1e-5)


def test_float32_is_nearly_exact_and_codes_are_not(rows):
    coded = rows["sequence:vq:groups=6:size=16"]
    exact = rows["sequence:float32"]
    assert exact["max_abs_logit_difference"] < 1e-3
    assert exact["perplexity_ratio"] == pytest.approx(1, abs=1e-4)
    assert 0 <= exact["kl_to_single"] < 1e-7
    assert 1e-7 < rows["tensor:int8"]["kl_to_single"] < 0.1 * coded["kl_to_single"]
    assert coded["kl_to_single"] > 1e-3
    assert coded["top1_agreement"] < 1


def test_bytes_and_messages_are_those_of_the_ledger(rows):
    for strategy in parse_strategies(SPECS)[1:]:
        engine = Engine(tiny.model(), strategy, DEVICES, codecs_of(strategy), SPLIT)
        _, ledger = engine.lower(T, "all")
        row = rows[strategy.spec()]
        assert row["bytes_sent_per_device"] == max(ledger.bytes_by_device())
        assert row["messages_per_device"] == max(ledger.messages_by_device())


def test_bits_of_a_token(rows):
    assert rows["sequence:float32"]["bits_per_token_per_layer"] == 32 * 48
    assert rows["sequence:vq:groups=6:size=16"]["bits_per_token_per_layer"] == 6 * 4


def test_predictions_follow_the_stated_formula(found, rows):
    rate, message = found.latency_model["flops_per_second"], found.latency_model["message_latency_s"]
    engine = Engine(tiny.model(), parse_strategy("sequence:float32"), DEVICES, split=SPLIT)
    assert engine.layout(T).lengths == (11, 5, 5)
    row = rows["sequence:float32"]
    layer_bytes = (DEVICES - 1) * 11 * 48 * 4  # as many rows a device as the longest has, in float32, to each other one
    assert row["bytes_sent_per_device"] == 2 * layer_bytes
    by_hand = max(engine.flops(T)) / rate + 8 * 2 * layer_bytes / 10e6 + 2 * message
    assert row["predicted_latency_s"]["10"] == pytest.approx(by_hand)
    single_s = rows["single"]["predicted_latency_s"]["10"]
    assert row["predicted_speedup"]["10"] == pytest.approx(single_s / by_hand)
    assert "rounds x message latency" in found.latency_model["description"]


def test_a_faster_link_is_never_slower(rows):
    for spec, row in rows.items():
        seconds = list(row["predicted_latency_s"].values())
        assert seconds == sorted(seconds, reverse=True)
        assert (seconds[0] > seconds[-1]) == (spec != "single")


@pytest.mark.parametrize(
    ("spec", "devices", "words"),
    [
        ("sequence:vq:groups=6", 2, "needs codebooks for kv; make them with"),
        ("sequence:vq:groups=7", 2, "groups that fit"),
        ("sequence:int8", T + 1, "cannot be split over"),
    ],
)
def test_what_cannot_run_is_said_before_anything_runs(windows_WT, spec, devices, words):
    with pytest.raises(ThinwireError, match=words):
        compare(
            tiny.model(),
            parse_strategies(f"sequence:float32,{spec}") if devices < T else [parse_strategy(spec)],
            devices,
            windows_WT,
            lambda _: {},
            progress=lambda _: pytest.fail("it began"),
        )


def test_engines_share_weights_that_lie_alike():
    model = tiny.model()
    make = lambda spec, devices, sharing=(): Engine(model, parse_strategy(spec), devices, sharing=sharing)
    buffers = lambda engine: engine._params["layers"]["wq"].unsafe_buffer_pointer()
    first = [make("single", 1), make("tensor:float32", 3)]
    assert buffers(make("tensor:int8", 3, first)) == buffers(first[1])
    assert buffers(make("tensor:int8", 2, first)) != buffers(first[1])
    assert buffers(make("sequence:int8", 3, first)) != buffers(first[1])
