import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.codecs import (
    CODECS,
    FSQ,
    BlockInt,
    Drop,
    Float,
    GroupedVQ,
    LowRank,
    Predictive,
    ResidualVQ,
    SegmentMeans,
    Sign,
    TopK,
)  # fmt: skip
from thinwire.errors import ThinwireError
from thinwire.strategies import (
    STRATEGIES,
    Ring,
    Sequence,
    Single,
    Tensor,
    parse_codec,
    parse_strategies,
    parse_strategy,
)  # fmt: skip

some = st.integers(1, 300)
quantisers = st.one_of(
    st.builds(BlockInt, st.sampled_from([8, 4, 2]), some),
    st.builds(GroupedVQ, some, st.integers(2, 65536)),
    st.builds(ResidualVQ, some, st.integers(2, 65536), st.integers(1, 8)),
    st.builds(TopK, some, st.sampled_from([16, 8])),
    st.builds(LowRank, some, st.sampled_from([8, 4])),
    st.builds(FSQ, some, st.integers(2, 256)),
    st.builds(Sign, some, st.sampled_from([0, 1])),
    st.builds(SegmentMeans, some, st.sampled_from([16, 8])),
    st.just(Drop()),
)
codecs = st.one_of(
    st.builds(Float, st.sampled_from(["float32", "bfloat16", "float16"])),
    quantisers,
    st.builds(Predictive, quantisers, st.integers(0, 300), st.integers(1, 4)),
)
sequence = {
    "codec": codecs,
    "site": st.sampled_from(["auto", "kv", "x", "norm"]),
    "sink": st.sampled_from([-1, 0, 1]),
    "layout_name": st.sampled_from(["contiguous", "zigzag"]),
}
strategies = st.one_of(
    st.just(Single()),
    st.builds(Tensor, codecs),
    st.builds(Sequence, **sequence),
    st.builds(Ring, **sequence, chunks=st.integers(1, 20)),
)


@given(strategies)
def test_what_is_written_is_read_back(strategy):
    assert parse_strategy(strategy.spec()) == strategy
    assert parse_strategy(f" {strategy.spec()}\n") == strategy


@given(codecs)
def test_codecs_are_read_back(codec):
    assert parse_codec(codec.spec()) == codec


def test_short_strings_mean_the_defaults():
    assert parse_strategy("sequence") == Sequence(Float("float32"))
    assert parse_strategy("ring:chunks=2") == Ring(Float("float32"), chunks=2)
    assert parse_strategy("tensor:int4:block=32") == Tensor(BlockInt(4, 32))
    assert parse_strategy("sequence:vq:groups=4:site=x:size=256") == Sequence(GroupedVQ(4, 256), site="x")
    assert parse_codec("predict+fsq:rank=8:levels=3:dims=5") == Predictive(FSQ(5, 3), rank=8)
    assert parse_codec("predict+vq") == parse_codec("pvq") == Predictive(GroupedVQ(48, 32))
    assert parse_codec("quality") == Predictive(GroupedVQ(48, 32), rotate="fisher")
    assert parse_strategy("sequence:bf16").codec == Float("bfloat16")
    assert parse_strategy("sequence:vq:groups=16").spec() == "sequence:vq:groups=16:size=1024"
    assert parse_strategy("sequence:int8:layout=zigzag:sink=0").spec() == "sequence:int8:sink=0:layout=zigzag"


def test_every_name_parses():
    for name in STRATEGIES:
        assert parse_strategy(name).name == name
    for name in CODECS:
        assert parse_strategy(f"sequence:{name}").codec == parse_codec(name)


def test_lists():
    assert [s.name for s in parse_strategies("single, ring:int8 ,tensor")] == ["single", "ring", "tensor"]
    for nothing in ("", " , "):
        with pytest.raises(ThinwireError, match="empty"):
            parse_strategies(nothing)


@pytest.mark.parametrize(
    ("text", "part", "says"),
    [
        ("", 1, "no strategy ''"),
        ("   ", 1, "no strategy ''"),
        ("foo", 1, "no strategy 'foo'"),
        ("sequnce:int8", 1, "did you mean 'sequence'"),
        ("Sequence", 1, "did you mean 'sequence'"),
        ("int8", 1, "no strategy 'int8'"),
        ("sequence:int9", 2, "did you mean 'int8'"),
        ("sequence:", 2, "no codec ''"),
        ("sequence::groups=2", 2, "no codec ''"),
        ("ring:zip", 2, "no codec 'zip'"),
        ("sequence:vq:grups=16", 3, "did you mean 'groups'"),
        ("sequence:int8:groups=16", 3, "no option 'groups'"),
        ("sequence:chunks=2", 2, "no option 'chunks'"),
        ("tensor:float32:site=x", 3, "no option 'site'"),
        ("tensor:float32:codec=int8", 3, "no option 'codec'"),
        ("sequence:int8:bits=4", 3, "no option 'bits'"),
        ("sequence:float32:dtype=int8", 3, "no option 'dtype'"),
        ("sequence:vq:groups=16:size", 4, "'size' is not OPTION=VALUE"),
        ("sequence:vq:groups=", 3, "'groups=' is not OPTION=VALUE"),
        ("sequence:vq:=16", 3, "'=16' is not OPTION=VALUE"),
        ("sequence:vq:groups=16:", 4, "'' is not OPTION=VALUE"),
        ("sequence:vq:groups=16:groups=8", 4, "groups is given twice"),
        ("sequence:site=x:site=kv", 3, "site is given twice"),
        ("sequence:vq:groups=many", 3, "groups must be a whole number, not 'many'"),
        ("sequence:vq:groups=1.5", 3, "groups must be a whole number, not '1.5'"),
        ("ring:chunks=x", 2, "chunks must be a whole number"),
        ("sequence:predict+vqq", 2, "did you mean 'predict+vq'"),
        ("sequence:predict+fsq:level=4", 3, "did you mean 'levels'"),
        ("sequence:drop:block=4", 3, "no option 'block'"),
        ("single:int8", 2, "takes no codec"),
        ("single:sink=1", 2, "no option 'sink'"),
        ("sequence:vq:groups=0", None, "at least 1 group, not 0"),
        ("sequence:vq:groups=-3", None, "at least 1 group"),
        ("sequence:vq:size=1", None, "not 1"),
        ("sequence:vq:size=65537", None, "not 65537"),
        ("sequence:predict+fsq:levels=1", None, "2 to 256 levels, not 1"),
        ("tensor:int8:block=0", None, "at least 1 value"),
        ("sequence:int8:site=foo", None, "site=foo"),
        ("sequence:int8:sink=2", None, "sink=2"),
        ("sequence:int8:layout=spiral", None, "layout=spiral"),
        ("ring:int8:chunks=0", None, "chunks=0"),
    ],
)
def test_what_does_not_parse_says_where(text, part, says):
    with pytest.raises(ThinwireError) as caught:
        parse_strategy(text)
    message = str(caught.value)
    assert says in message
    assert repr(text) in message
    assert message.endswith(".")
    if part is not None:
        assert f"part {part}:" in message


def test_a_bad_entry_of_a_list_is_named():
    with pytest.raises(ThinwireError, match=r"'rng'.*did you mean 'ring'"):
        parse_strategies("single,rng")
