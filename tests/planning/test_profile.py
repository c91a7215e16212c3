"""Profiles: written and read, curves, and a pass made of pieces."""

import dataclasses
import json

import pytest

import tiny
from thinwire.errors import ThinwireError
from thinwire.planning.latency import predict_latency
from thinwire.planning.profile import Curve, Link, Profile, from_plain, read_profiles, to_plain
from thinwire.strategies import parse_strategy
from thinwire.strategies.base import Traffic
from thinwire.strategies.work import codings, traffic_of, work_of

SPECS = ("single", "sequence:int8", "sequence:vq:groups=6:size=16", "ring:float32", "tensor:int8", "sequence:drop")
ROWS = (8.0, 32.0, 128.0)


def profile(specs=SPECS, devices=3, **changes) -> Profile:
    dims = tiny.dims()
    coded = [one for spec in specs for one in codings(parse_strategy(spec), dims, devices)]
    rows = lambda a, b: Curve(ROWS, tuple(a + b * x for x in ROWS))
    found = Profile(
        "tiny", "float32",
        layer=rows(1e-3, 1e-4), part=rows(5e-4, 2e-5), part_share=0.25, kv_share=0.1,
        attention=Curve(tuple(x * x for x in ROWS), tuple(1e-7 * x * x for x in ROWS)),
        ends=rows(1e-4, 1e-6), coding={one.name: rows(1e-4, 1e-5) for one in coded},
        links={"gather": Link(1e-3, 0.9), "sum": Link(2e-3, 0.5)},
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def seconds(spec, tokens=36, devices=3, mbps=10.0, machine=None):
    strategy, dims = parse_strategy(spec), tiny.dims()
    devices = 1 if spec == "single" else devices
    work, traffic = work_of(strategy, dims, tokens, devices), traffic_of(strategy, dims, tokens, devices)
    return predict_latency(work, traffic, machine or profile(), mbps)


def test_written_and_read():
    one = profile()
    assert from_plain(json.loads(json.dumps(to_plain(one)))) == one


def test_a_file_of_profiles(tmp_path):
    path = tmp_path / "profiles.json"
    path.write_text(json.dumps({"profiles": [to_plain(profile()), to_plain(profile(kv_share=0.5))]}))
    assert [one.kv_share for one in read_profiles(path)] == [0.1, 0.5]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.pop("layer"),
        lambda plain: plain["links"]["sum"].update(efficiency=0),
        lambda plain: plain["links"]["sum"].update(message_s=-1),
        lambda plain: plain.pop("links"),
        lambda plain: plain.update(part_share=1.0),
        lambda plain: plain.update(coding=3),
        lambda plain: plain["layer"].update(seconds=[1.0]),
        lambda plain: plain["layer"].update(sizes=[3, 2, 1]),
        lambda plain: plain["layer"].update(seconds=[-1.0, 1.0, 1.0]),
    ],
)
def test_a_spoilt_profile_is_refused(spoil):
    plain = to_plain(profile())
    spoil(plain)
    with pytest.raises(ThinwireError, match="profile"):
        from_plain(plain)


@pytest.mark.parametrize("text", ["", "[]", '{"profiles": []}', '{"profiles": [1]}'])
def test_a_file_without_profiles_is_refused(tmp_path, text):
    path = tmp_path / "profiles.json"
    path.write_text(text)
    with pytest.raises(ThinwireError, match="profile"):
        read_profiles(path)


def test_a_curve_goes_through_its_points_and_straight_between_them():
    curve = Curve((10, 20, 40), (1.0, 3.0, 4.0))
    assert [curve.at(x) for x in (10, 15, 20, 30, 40)] == pytest.approx([1, 2, 3, 3.5, 4])
    assert curve.at(80) == pytest.approx(8)  # in proportion
    assert curve.at(0) == 0
    assert 0 <= curve.at(5) <= 1


def test_a_curve_never_falls():
    curve = Curve((10, 20, 40), (2.0, 1.0, 3.0))
    found = [curve.at(x) for x in range(0, 100, 3)]
    assert found == sorted(found)


def test_a_pass_by_hand():
    dims, one = tiny.dims(), profile()
    work = work_of(parse_strategy("tensor:int8"), dims, 128, 3)[0]
    parts = one.parts_s(work)
    whole, part = 1e-3 + 128e-4, 5e-4 + 128 * 2e-5
    matrices = (whole - part) / 0.75
    assert parts["layer"] == pytest.approx(dims.layers * (whole - (1 - work.share) * matrices))
    assert parts["sum"] == pytest.approx(dims.layers * 2 * (1e-4 + 128e-5))
    assert parts["attention"] == pytest.approx(dims.layers * 1e-7 * work.pairs)
    assert one.local_s(work) == pytest.approx(sum(parts.values()))


def test_the_links_by_hand():
    gather, total = (work_of(parse_strategy(spec), tiny.dims(), 36, 3)[0] for spec in ("sequence:int8", "tensor:int8"))
    assert profile().wire_s(gather, 10**6, 8.0) == pytest.approx(1 / 0.9)
    assert profile().wire_s(total, 10**6, 8.0) == pytest.approx(2)
    assert profile().wait_s(gather, 12, 4) == pytest.approx(12e-3)
    assert profile().wait_s(total, 12, 4) == pytest.approx(24e-3)


def test_a_device_that_was_profiled_alone_knows_no_exchange():
    assert seconds("single", machine=profile(links={})) > 0
    with pytest.raises(ThinwireError, match="no exchange of the kind 'sum'"):
        seconds("tensor:int8", machine=profile(links={}))


@pytest.mark.parametrize("spec", SPECS)
def test_longer_is_never_faster(spec):
    found = [seconds(spec, tokens) for tokens in (12, 24, 36, 48, 60)]
    assert found == sorted(found)
    assert found[-1] > found[0]


@pytest.mark.parametrize("spec", SPECS)
def test_a_faster_link_is_never_slower(spec):
    found = [seconds(spec, mbps=mbps) for mbps in (1, 10, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert (found[0] > found[-1]) == (spec not in ("single", "sequence:drop"))


def test_more_bytes_take_longer():
    one = profile()
    work = work_of(parse_strategy("sequence:int8"), tiny.dims(), 36, 3)
    at = lambda sent: predict_latency(work, Traffic((sent,) * 3, (2,) * 3, 1), one, 10.0)
    assert at(0) < at(1000) < at(100_000)


def test_the_slowest_device_decides():
    fast, slow = profile(), profile(layer=Curve((8.0,), (1.0,)))
    assert seconds("sequence:int8", machine=[fast, slow, fast]) > 10 * seconds("sequence:int8", machine=[fast] * 3)


def test_a_codec_that_was_not_profiled_is_named():
    with pytest.raises(ThinwireError, match="does not know encode int4@48"):
        seconds("sequence:int4:site=x")
