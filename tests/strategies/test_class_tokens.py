"""A class token for each device: what it sees, who sees it, and what becomes of the copies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.errors import ThinwireError
from thinwire.layout import contiguous
from thinwire.models import vit
from thinwire.strategies import bidirectional, parse_strategy
from thinwire.strategies.base import Setting
from thinwire.wire.collectives import device_index
from thinwire.wire.spmd import spmd

DEVICES = 3


@functools.cache
def by_device(spec, other_on_1=False, **changes):
    """The rows of every device (N, 1 + R, D), and their layout; device 1 may have another class token."""
    engine = tiny_vit.engine(spec, DEVICES, **changes)
    setting = Setting(engine.dims, engine.layout(tiny_vit.TOKENS))
    assert setting.layout.shared == 1

    def local(params, codecs, rows_TP):
        position_R = engine.strategy.positions(setting)
        own_RP = rows_TP[jnp.minimum(position_R, tiny_vit.TOKENS - 1)]
        token_D = params["class_token"]
        token_D = jnp.where(other_on_1 & (device_index() == 1), token_D[::-1], token_D)
        params = {**params, "class_token": token_D}
        return vit.forward(params, engine.model.config, own_RP, position_R, engine.strategy, setting, codecs)[0]

    run = jax.jit(spmd(local, DEVICES, (False, False, False)))
    return np.asarray(run(engine._params, engine._codecs, jnp.asarray(tiny_vit.image()))), setting.layout


def real(rows_NRD, layout, device):
    """A device's rows without padding."""
    return rows_NRD[device, : 1 + layout.lengths[device]]


@pytest.mark.parametrize("name", ["sequence", "ring"])
def test_copies_of_an_exact_strategy_are_the_single_devices_class_token(name):
    """Each sees all patches exactly and itself, as the one class token would."""
    found_NRD, _ = by_device(f"{name}:float32:class_tokens=each")
    for copy_D in found_NRD[:, 0]:
        np.testing.assert_allclose(copy_D, tiny_vit.single_features()[0], atol=1e-5)


@pytest.mark.parametrize("spec", ["sequence:float32:class_tokens=each", "ring:vq:groups=6:size=16"])
def test_a_copy_is_seen_by_its_own_device_only(spec):
    """In one layer another class token on device 1 reaches all rows of device 1, and not a bit of the others'."""
    before, layout = by_device(spec, L=1)
    after, _ = by_device(spec, True, L=1)
    for device in (0, 2):
        np.testing.assert_array_equal(real(after, layout, device), real(before, layout, device))
    assert (np.abs(real(after, layout, 1) - real(before, layout, 1)).max(axis=-1) > 1e-3).all()


def test_in_two_layers_it_reaches_others_through_the_patches_that_have_seen_it():
    before, layout = by_device("sequence:float32:class_tokens=each")
    after, _ = by_device("sequence:float32:class_tokens=each", True)
    assert (np.abs(real(after, layout, 0) - real(before, layout, 0)).max(axis=-1) > 1e-4).all()


def test_the_result_is_the_mean_of_the_copies():
    spec = "sequence:vq:groups=6:size=16"
    found_NRD, layout = by_device(spec)
    joined_TD = tiny_vit.engine(spec, DEVICES).logits(tiny_vit.image())
    copies_ND = found_NRD[:, 0]
    assert np.abs(copies_ND[0] - copies_ND[1]).max() > 1e-3
    np.testing.assert_allclose(joined_TD[0], copies_ND.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(joined_TD[1:], layout.join(found_NRD)[1:], atol=1e-5)


def test_padding_is_not_seen():
    found = tiny_vit.engine("sequence:float32:class_tokens=each", 3, (1.0, 9.0, 1.0)).logits(tiny_vit.image())
    np.testing.assert_allclose(found, tiny_vit.single_features(), atol=1e-5)


def test_one_class_token_is_a_token_of_device_0():
    layout = tiny_vit.engine("sequence:int8:class_tokens=one", DEVICES).layout(tiny_vit.TOKENS)
    assert (layout.shared, layout.lengths) == (0, (7, 7, 7))
    assert layout.positions_NR[0, 0] == 0


@pytest.mark.parametrize(
    ("spec", "shared"),
    [("int8", 1), ("float32", 0), ("float32:class_tokens=each", 1), ("vq:class_tokens=one", 0), ("bfloat16", 0)],
)
def test_the_default_is_one_each_for_lossy_codecs(spec, shared):
    strategy = parse_strategy(f"sequence:{spec}")
    assert strategy.layout(vit.dims(tiny_vit.CONFIG), 21, 4, None).shared == shared
    assert strategy.layout(vit.dims(tiny_vit.CONFIG), 21, 1, None).shared == 0
    assert parse_strategy(strategy.spec()) == strategy


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ThinwireError, match="class_tokens=two is neither each nor one"):
        parse_strategy("ring:int8:class_tokens=two")
    with pytest.raises(ThinwireError, match="models with a class token; leave it out"):
        tiny.engine("sequence:int8:class_tokens=each", 2)
    with pytest.raises(ThinwireError, match="only a causal model allows; use sink=0"):
        tiny_vit.engine("sequence:int8:sink=1", 2)
    with pytest.raises(ThinwireError, match=r"this model's other devices do not know; add rank=0"):
        tiny_vit.engine("sequence:pvq:groups=6:size=8", 2)


@pytest.mark.parametrize(("devices", "split", "shared"), [(4, None, 1), (3, (1.0, 5.0, 2.0), 0), (2, (3.0, 1.0), 1)])
def test_rows_with_tokens_are_the_same_stretch_by_stretch(devices, split, shared):
    layout = contiguous(29, devices, split, shared)
    rows_CD = jnp.arange(2 * (shared + devices * layout.rows)).reshape(-1, 2)
    for row_T in bidirectional._rows_with_tokens(layout):
        np.testing.assert_array_equal(bidirectional._stretches(rows_CD, row_T), bidirectional._rows(rows_CD, row_T))
        assert len(row_T) == layout.tokens
