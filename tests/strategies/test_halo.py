"""A halo: tokens before its own that a device computes too, and that it then sees exactly."""

import numpy as np
import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.layout import PAD, contiguous, zigzag
from thinwire.strategies import Setting, parse_strategy
from thinwire.strategies.work_rows import WorkRows
from thinwire.wire.spmd import make_mesh


@pytest.mark.parametrize(
    ("spec", "devices", "split"),
    [
        ("sequence:float32:halo=3", 4, None),
        ("sequence:float32:halo=9:sink=1:site=x", 3, (1.0, 5.0, 2.0)),
        ("sequence:float32:halo=4:layout=zigzag:sink=1", 3, None),
        ("ring:float32:halo=60:layout=zigzag:chunks=2", 4, (1.0, 4.0, 2.0, 2.0)),
    ],
)
def test_exact_codecs_stay_exact(spec, devices, split):
    """Halo tokens are counted once: neither missing nor attended to twice."""
    found = tiny.engine(spec, devices, split).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=1e-5)


def test_a_mesh_equals_virtual_devices():
    spec = "sequence:vq:groups=6:size=16:halo=5"
    np.testing.assert_allclose(
        tiny.engine(spec, make_mesh(3)).logits(tiny.ids()), tiny.engine(spec, 3).logits(tiny.ids()), atol=1e-5
    )


@pytest.mark.parametrize("name", ["sequence", "ring"])
def test_a_halo_of_everything_before_needs_nobody(name):
    """With the whole past in the halo, even a codec that sends nothing gives the single device's logits."""
    found = tiny.engine(f"{name}:drop:halo={tiny.TOKENS}", 3).logits(tiny.ids())
    np.testing.assert_allclose(found, tiny.single_logits(), atol=1e-5)


def test_it_costs_no_bytes_and_some_work():
    with_halo, without = (tiny.engine(f"sequence:vq:groups=6:size=16{halo}", 3) for halo in (":halo=5", ""))
    assert with_halo.traffic(tiny.TOKENS) == without.traffic(tiny.TOKENS)
    first, *others = np.subtract(with_halo.flops(tiny.TOKENS), without.flops(tiny.TOKENS))
    assert first == 0  # there is nothing before it
    assert min(others) > 0


def test_generation_keeps_what_was_computed_exactly():
    """With the whole past in the halo the last device's cache is the single device's."""
    prompt = tiny.ids()
    alone = list(tiny.engine("single").generate(prompt, 6))
    found = list(tiny.engine(f"sequence:vq:groups=6:size=16:halo={tiny.TOKENS}", 3).generate(prompt, 6))
    assert found == alone


@pytest.mark.parametrize("halo", [0, 1, 4, 100])
@pytest.mark.parametrize(
    "layout",
    [contiguous(23, 4, None, 1), contiguous(23, 3, (1.0, 5.0, 1.0)), zigzag(23, 3, (2.0, 1.0, 3.0), 1), zigzag(23, 4)],
)
def test_the_rows_of_a_device(layout, halo):
    work = WorkRows(layout, halo)
    own_NR = np.take_along_axis(work.positions_NW, work.own_NR, axis=1)
    np.testing.assert_array_equal(own_NR[layout.valid_NR], layout.positions_NR[layout.valid_NR])
    for rows, device in zip(work.positions_NW, layout.segments, strict=True):
        real = rows[rows < PAD]
        assert len(set(real)) == len(real)  # nothing twice
        np.testing.assert_array_equal(real, np.sort(real))
        wanted = {p for a, b in device if a < b for p in range(max(layout.shared, a - halo), b)}
        assert set(real) == wanted
    assert work.tiles[0][0] == 0
    assert [b for _, b in work.tiles[:-1]] == [a for a, _ in work.tiles[1:]]


def test_a_device_without_a_halo_has_room_for_more_tokens():
    """The first device leads in with nothing, so a split that gives it as many tokens more costs no row of padding."""
    work = WorkRows(contiguous(129, 2, (80.0, 48.0), 1), 32)
    assert work.positions_NW.shape == (2, 80)
    assert (work.positions_NW < PAD).all()


def test_what_has_no_meaning_is_said():
    with pytest.raises(ThinwireError, match="halo=-2 is below 0"):
        parse_strategy("sequence:vq:halo=-2")
    with pytest.raises(ThinwireError, match="halo=3 is for causal models"):
        parse_strategy("sequence:vq:groups=4:halo=3").check(tiny.dims("bert"))


def test_by_default_codes_of_few_bits_of_causal_models_have_one():
    """An eighth of the own tokens, or 32."""
    for spec, tokens, expected in (
        ("sequence:float32", 256, 0),
        ("sequence:int4", 256, 0),  # and a half with their scales
        ("sequence:int2", 256, 8),
        ("ring:vq:groups=6:size=16", 4096, 32),
    ):
        strategy, dims = parse_strategy(spec), tiny.dims("llama")
        setting = Setting(dims, strategy.layout(dims, tokens, 4, None))
        assert strategy.work(setting).halo == expected
    dims = tiny.dims("bert")
    strategy = parse_strategy("sequence:int2")
    assert strategy.work(Setting(dims, strategy.layout(dims, 256, 4, None))).halo == 0
