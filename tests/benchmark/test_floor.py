"""The floor by hand."""

import pytest

import tiny
from thinwire.benchmark.floor import floor_s, model_flops
from thinwire.strategies import parse_strategy


def test_floor_is_the_slowest_host_and_the_wire_and_the_hops():
    # 2 s and 4 s of computing; 1 MB at 8 Mbps is 1 s; 3 round trips.
    assert floor_s([2e9, 4e9], [1e9, 1e9], [1_000_000, 10], 8.0, 3, 0.1) == pytest.approx(4 + 1 + 0.3)


@pytest.mark.parametrize("spec", ["sequence:vq:groups=6:size=16", "sequence:quality:groups=6:size=16", "tensor:int8"])
def test_coding_and_halos_count_as_nothing(spec):
    dims = tiny.dims()
    coded = parse_strategy(spec.replace("quality", "pvq"))
    plain = parse_strategy(spec.split(":")[0] + ":float32")
    devices = 3
    found = model_flops(coded, dims, tiny.TOKENS, devices, None)
    wanted = model_flops(plain, dims, tiny.TOKENS, devices, None)
    assert sum(found) == pytest.approx(sum(wanted), rel=0.02)


def test_projecting_what_others_sent_counts():
    at = lambda site: model_flops(parse_strategy(f"sequence:int8:site={site}"), tiny.dims(), tiny.TOKENS, 3, None)
    assert min(a / b for a, b in zip(at("x")[1:], at("kv")[1:], strict=True)) > 1.03


def test_the_single_device_has_it_all():
    single = model_flops(parse_strategy("single"), tiny.dims(), tiny.TOKENS, 1, None)
    split = model_flops(parse_strategy("sequence:float32"), tiny.dims(), tiny.TOKENS, 4, None)
    assert sum(split) == pytest.approx(single[0] + 3 * 2 * 48 * 64)  # every device has a head for one token
