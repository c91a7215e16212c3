"""Strategies over a predictive codec: one result by every route, an exact first layer, bytes for the others only."""

import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy
from thinwire.wire.spmd import make_mesh

PVQ = "pvq:groups=6:size=8:rank=7"


@pytest.mark.parametrize(("other", "where"), [("sequence", "mesh"), ("ring", "virtual"), ("ring:chunks=2", "virtual")])
def test_every_route_gives_the_same(other, where):
    name, _, options = other.partition(":")
    expected = tiny.engine(f"sequence:{PVQ}", 3).logits(tiny.ids())
    spec = ":".join(filter(None, [name, PVQ, options]))
    found = tiny.engine(spec, make_mesh(3) if where == "mesh" else 3).logits(tiny.ids())
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("spec", [f"sequence:{PVQ}", f"sequence:{PVQ}:layout=zigzag"])
def test_with_one_layer_nothing_is_lost_and_nothing_sent(spec):
    engine = tiny.engine(spec, 3, L=1)
    np.testing.assert_allclose(engine.logits(tiny.ids()), tiny.single_logits(L=1), atol=1e-5)
    assert engine.traffic(tiny.TOKENS).bytes_by_device == (0, 0, 0)


def test_later_tokens_do_not_matter():
    engine = tiny.engine(f"sequence:{PVQ}", 3)
    changed = tiny.ids().copy()
    changed[30] = (changed[30] + 1) % 64
    before, after = engine.logits(tiny.ids()), engine.logits(changed)
    np.testing.assert_allclose(after[:30], before[:30], atol=1e-5)
    assert np.abs(after[30:] - before[30:]).max() > 1e-3


@pytest.mark.parametrize("name", ["sequence", "ring"])
def test_formula_and_ledger_agree(name):
    engine = tiny.engine(f"{name}:{PVQ}", 3)
    _, ledger = engine.lower(tiny.TOKENS)
    traffic = engine.traffic(tiny.TOKENS)
    assert ledger.bytes_by_device() == traffic.bytes_by_device
    assert ledger.messages_by_device() == traffic.messages_by_device
    assert set(ledger.by_layer()) == {1}
    assert engine.strategy.bits_per_token(engine.dims) == 6 * 3 / 2  # one of two layers


def test_without_token_features_layer_0_is_sent_like_the_others():
    engine = tiny.engine("sequence:pvq:groups=6:size=8:rank=0", 3)
    _, ledger = engine.lower(tiny.TOKENS)
    assert ledger.bytes_by_device() == engine.traffic(tiny.TOKENS).bytes_by_device
    assert set(ledger.by_layer()) == {0, 1}
    assert engine.strategy.bits_per_token(engine.dims) == 6 * 3
    assert np.isfinite(engine.logits(tiny.ids())).all()


def test_what_is_predicted_is_seen_though_nothing_is_sent():
    engine = tiny.engine("sequence:predict+drop:rank=7", 3)
    assert engine.traffic(tiny.TOKENS).bytes_by_device == engine.traffic(tiny.TOKENS).messages_by_device == (0, 0, 0)
    changed = tiny.ids().copy()
    changed[3] = (changed[3] + 1) % 64
    assert np.abs(engine.logits(changed)[-1] - engine.logits(tiny.ids())[-1]).max() > 1e-3


def test_generation_goes_on_from_what_was_seen():
    engine = tiny.engine(f"sequence:{PVQ}", 3)
    tokens = list(engine.generate(tiny.ids(), 3))
    assert tokens[0] == int(engine.logits(tiny.ids())[-1].argmax())
    assert tokens == list(tiny.engine(f"ring:{PVQ}", 3).generate(tiny.ids(), 3))


def test_where_it_has_no_meaning_it_is_refused():
    with pytest.raises(ThinwireError, match="tensor parallelism sends sums"):
        tiny.engine(f"tensor:{PVQ}", 3)
    with pytest.raises(ThinwireError, match="leave site=x out"):
        tiny.engine(f"sequence:{PVQ}:site=x", 3)


def test_presets_are_codecs_with_options():
    assert parse_strategy("sequence:quality").spec() == "sequence:pvq:groups=48:size=32:rotate=fisher"
    assert parse_strategy("sequence:balanced:groups=32").codec.quantiser.groups == 32
