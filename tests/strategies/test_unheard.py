"""Rows that no other device sees are not coded."""

import collections
import re

import jax
import numpy as np
import pytest

import tiny
from thinwire.codecs.vq import GroupedVQ
from thinwire.layout import contiguous, zigzag
from thinwire.strategies import Setting, parse_strategy
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire import collectives
from thinwire.wire.spmd import make_mesh

SPEC = "sequence:vq:groups=6:size=16:site=kv"


def test_the_last_device_of_a_causal_model_is_not_heard():
    layout = contiguous(12, 3, (1.0, 2.0, 3.0), 1)
    assert WorkRows(layout).heard(causal=True).tolist() == [True, True, False]
    assert WorkRows(layout).heard(causal=False).tolist() == [True, True, True]
    assert WorkRows(contiguous(12, 1, None, 0)).heard(causal=True).tolist() == [False]
    # Its early tokens are seen by all others.
    assert WorkRows(zigzag(12, 3, None, 1)).heard(causal=True).tolist() == [True, True, True]


@pytest.mark.parametrize("device", [0, 1, 2])
def test_rows_that_a_device_sees_are_counted_once(device):
    work = WorkRows(contiguous(12, 3, (1.0, 2.0, 3.0), 0))
    assert work.seen_rows(device, causal=True) == [0, 2, 6][device]
    assert work.seen_rows(device, causal=False) == 12 - [2, 4, 6][device]


@pytest.fixture
def encoded(monkeypatch):
    """Counts of encodings by device, of programs that really run on a mesh."""
    counts = collections.Counter()
    encode = GroupedVQ.encode

    def counting(self, *args, **kwargs):
        jax.debug.callback(lambda device: counts.update([int(device)]), collectives.device_index())
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(GroupedVQ, "encode", counting)
    return counts


@pytest.mark.parametrize(("spec", "silent"), [(SPEC, 2), (SPEC.replace("vq", "pvq").replace(":site=kv", ""), 2)])
def test_it_is_skipped_at_run_time(encoded, spec, silent):
    engine = tiny.engine(spec, make_mesh(3))
    found = engine.logits(tiny.ids())
    jax.effects_barrier()
    assert encoded[silent] == 0
    assert encoded[0] == encoded[1] > 0
    np.testing.assert_allclose(found, tiny.engine(spec, 3).logits(tiny.ids()), atol=1e-5)


def test_it_is_not_counted_as_work():
    dims = tiny.dims()
    loud, quiet = (parse_strategy(f"{SPEC}:layout={layout}") for layout in ("zigzag", "contiguous"))
    size = tiny.TOKENS // 3
    coding = loud.codec.encode_flops(dims.site_dim("kv"))
    assert coding > 0

    def without_attention(strategy):
        layout = strategy.layout(dims, tiny.TOKENS, 3, None)
        pairs = np.asarray(layout.visible_pairs(True)) + np.asarray(strategy.work(Setting(dims, layout)).extra_pairs())
        return np.asarray(strategy.flops(Setting(dims, layout))) - pairs * dims.pair_flops()

    layout = quiet.layout(dims, tiny.TOKENS, 3, None)
    rows = np.asarray(layout.lengths) + layout.shared + np.asarray(quiet.work(Setting(dims, layout)).extra_rows())
    expected = rows * (dims.row_flops() + dims.kv_flops())
    expected[:2] += np.asarray(layout.lengths[:2]) * coding
    expected += np.array([0, size, 2 * size]) * quiet.codec.decode_flops(dims.site_dim("kv"))
    np.testing.assert_allclose(without_attention(quiet), expected, rtol=0.02)


def test_one_prediction_serves_coding_an_own_row_and_decoding_it():
    codec = parse_strategy("sequence:pvq:groups=6:size=16:rank=8:bottleneck=7").codec
    dim = tiny.dims().site_dim("kv")
    prediction = 2 * 7 * (8 + dim + dim)
    assert codec.own_flops(dim) == codec.encode_flops(dim) + codec.decode_flops(dim) - prediction
    plain = codec.quantiser
    assert plain.own_flops(dim) == plain.encode_flops(dim)


def test_own_rows_are_predicted_once_for_coding_and_for_the_next_layer():
    """In the compiled program a layer predicts the own rows and those of another device: through 7 numbers here."""
    engine = tiny.engine("sequence:pvq:groups=6:size=16:rank=8:bottleneck=7", make_mesh(2))
    compiled = engine.lower(tiny.TOKENS)[0].compile().as_text()
    assert len(re.findall(r"= f32\[\d+,7\]\S* dot\(", compiled)) == 2
