"""Work, counted: what the FLOPs of a strategy say where they count the same, and padding and hidden keys besides."""

import pytest

import tiny
import tiny_vit
from thinwire.strategies import parse_strategy
from thinwire.strategies.work import codings, tensor_share, traffic_of, work_of


def vit_dims():
    return tiny_vit.engine("single").dims


def test_the_single_device_of_a_bidirectional_model():
    (work,) = work_of(parse_strategy("single"), vit_dims(), 30, 1)
    assert (work.rows, work.pairs, work.coding) == (30, 900, ())


def test_causal_attention_computes_whole_tiles():
    pairs = lambda tokens: work_of(parse_strategy("single"), tiny.dims(), tokens, 1)[0].pairs
    assert pairs(100) == 100**2
    assert pairs(256) == 128 * 128 + 128 * 256
    assert 1024**2 / 2 < pairs(1024) < 0.6 * 1024**2


@pytest.mark.parametrize("spec", ["sequence:int8:site=kv", "ring:int8:site=kv"])
def test_devices_of_a_bidirectional_model_share_rows_and_pairs(spec):
    works = work_of(parse_strategy(spec), vit_dims(), 30, 3)
    shared = work_of(parse_strategy(spec + ":class_tokens=one"), vit_dims(), 30, 3)
    assert [(work.rows, work.pairs, work.projected) for work in shared] == [(10, 300, 0)] * 3
    assert all(work.rows == 11 for work in works)  # its own class token
    (encode, own), (decode, others) = shared[0].coding
    assert (encode.kind, own, decode.kind, others) == ("encode", 10, "decode", 20)


def test_the_last_device_of_a_causal_model_sees_most():
    works = work_of(parse_strategy("sequence:int8:sink=0"), tiny.dims(), 36, 3)
    assert [work.pairs for work in works] == [144, 144 + 144, 144 + 288]
    assert [rows for work in works for one, rows in work.coding if one.kind == "decode"] == [0, 12, 24]
    assert [rows for work in works for one, rows in work.coding if one.kind == "encode"] == [12, 12, 0]


def test_padding_and_halos_are_worked_on():
    dims = tiny.dims()
    rows = lambda spec, split=None: work_of(parse_strategy(spec), dims, 36, 3, split)[0].rows
    assert rows("sequence:float32") == 12
    assert rows("sequence:float32", (1.0, 2.0, 3.0)) == 18
    assert rows("sequence:int2:sink=0:halo=4") == 16


def test_rows_that_are_sent_before_projection_are_projected_again():
    works = work_of(parse_strategy("sequence:int8:site=x:sink=0"), tiny.dims(), 36, 3)
    assert [work.projected for work in works] == [0, 12, 24]


def test_nothing_sent_is_nothing_coded():
    work = work_of(parse_strategy("sequence:drop"), tiny.dims(), 36, 3)[2]
    assert (work.coding, work.projected) == ((), 0)


def test_tensor_has_a_share_of_everything():
    dims = tiny.dims()
    (work, *_) = work_of(parse_strategy("tensor:int8"), dims, 36, 3)
    assert work.share == pytest.approx(tensor_share(dims, 3))
    assert 1 / 3 <= work.share < 0.4
    assert work.pairs == pytest.approx(36**2 / 3)
    assert [(one.name, rows) for one, rows in work.coding] == [("sum int8@48 over 3", 36)] * 2


@pytest.mark.parametrize(
    "spec", ["sequence:int8", "tensor:int8", "ring:vq:groups=6:size=16", "sequence:pvq:groups=6:size=16"]
)
def test_traffic_is_the_engines(spec):
    engine = tiny.engine(spec, 3)
    assert traffic_of(engine.strategy, engine.dims, 36, 3) == engine.traffic(36)


@pytest.mark.parametrize("spec", ["sequence:int8", "sequence:pvq:groups=6:size=16", "tensor:int8", "ring:int4"])
def test_all_codings_of_a_pass_are_among_those_to_profile(spec):
    strategy, dims = parse_strategy(spec), tiny.dims()
    names = {one.name for work in work_of(strategy, dims, 36, 3) for one, _ in work.coding}
    assert names == {one.name for one in codings(strategy, dims, 3)} != set()
