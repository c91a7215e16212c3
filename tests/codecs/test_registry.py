"""What holds for every codec: the formula is the bytes, one batch is a loop, the spec is canonical."""

import jax
import jax.numpy as jnp
import pytest

from thinwire.codecs import (
    ALIASES,
    CODECS,
    FSQ,
    PRESETS,
    BlockInt,
    GroupedVQ,
    LowRank,
    ResidualVQ,
    SegmentMeans,
    Sign,
    TopK,
)  # fmt: skip
from thinwire.errors import ThinwireError

encode = jax.jit(lambda codec, params, x_TD: codec.encode(params, x_TD), static_argnums=0)

EACH = [
    ("float32", {}),
    ("bfloat16", {}),
    ("float16", {}),
    ("int8", {}),
    ("int4", {"block": 5}),
    ("int2", {}),
    ("vq", {"groups": 3, "size": 10}),
    ("rvq", {"groups": 3, "size": 10, "stages": 3}),
    ("topk", {"keep": 5}),
    ("topk", {"keep": 5, "bits": 8}),
    ("lowrank", {"dims": 5}),
    ("lowrank", {"dims": 5, "bits": 4}),
    ("fsq", {"dims": 5, "levels": 3}),
    ("fsq", {"dims": 5, "levels": 4}),
    ("sign", {"block": 5}),
    ("sign", {"block": 64, "centre": 0}),
    ("means", {"length": 3}),
    ("means", {"length": 3, "bits": 8}),
    ("drop", {}),
]
# Bits that a payload may be rounded up by: to bytes, and before that to whole words or segments.
ROUNDED = {"fsq": 16 + 8, "means": 3 * 8 * 64}
T, D = 7, 12


def made(name, options):
    codec = CODECS[name](**options)
    params = {k: v[0] for k, v in codec.init_params(jax.random.key(1), 2, D).items()}
    return codec, params


@pytest.mark.parametrize(("name", "options"), EACH)
def test_payload_has_the_bytes_of_the_formula(name, options, key):
    codec, params = made(name, options)
    for tokens in (1, T):
        payload = encode(codec, params, jax.random.normal(key, (tokens, D)))
        sent = sum(a.size * a.dtype.itemsize for a in payload.values())
        assert sent == codec.payload_bytes(tokens, D)
        assert 0 <= 8 * sent - tokens * codec.bits_per_token(D) < ROUNDED.get(name, 8)


@pytest.mark.parametrize(("name", "options"), EACH)
def test_vmap_equals_a_loop_and_float32_rows_come_back(name, options, key):
    codec, params = made(name, options)
    x_NTD = jax.random.normal(key, (3, T, D))

    def there_and_back(x_TD):
        return codec.decode(params, codec.encode(params, x_TD), T, D)

    alone = jax.jit(there_and_back)
    looped = jnp.stack([alone(x_TD) for x_TD in x_NTD])
    assert looped.dtype == jnp.float32
    assert jnp.allclose(jax.jit(jax.vmap(there_and_back))(x_NTD), looped, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), EACH)
def test_no_rows(name, options):
    codec, params = made(name, options)
    payload = codec.encode(params, jnp.zeros((0, D)))
    assert codec.payload_bytes(0, D) == sum(a.size for a in payload.values()) == 0
    assert codec.decode(params, payload, 0, D).shape == (0, D)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_name_makes_the_codec_of_that_name(name):
    codec = CODECS[name]()
    presets = dict.fromkeys(PRESETS, "pvq") | {"paper": "vq"}
    expected = presets.get(name) or ALIASES.get(name, name)
    assert codec.name == expected
    assert codec.predicts == ("predict" in name or codec.name == "pvq")
    assert hash(codec) == hash(CODECS[name]())
    assert bool(codec.init_params(jax.random.key(0), 1, 48)) == codec.learns


def test_specs_are_canonical():
    assert CODECS["fp16"]().spec() == "float16"
    assert CODECS["int4"]().spec() == "int4"
    assert CODECS["int4"](block=32).spec() == "int4:block=32"
    assert CODECS["vq"]().spec() == "vq:groups=16:size=1024"
    assert CODECS["vq"](size=16).spec() == "vq:groups=16:size=16"
    assert CODECS["rvq"]().spec() == "rvq:groups=16:size=32:stages=2"
    assert CODECS["topk"]().spec() == "topk:keep=16"
    assert CODECS["lowrank"](bits=4).spec() == "lowrank:dims=16:bits=4"
    assert CODECS["fsq"](levels=3).spec() == "fsq:dims=32:levels=3"
    assert CODECS["sign"](centre=0).spec() == "sign:block=64:centre=0"
    assert CODECS["means"](bits=8).spec() == "means:length=8:bits=8"
    assert CODECS["drop"]().spec() == "drop"
    # Codebooks on disk are found by these: they never change.
    assert CODECS["pvq"]().spec() == "pvq:groups=48:size=32"
    assert CODECS["predict+vq"](groups=4, rank=8).spec() == "pvq:groups=4:size=32:rank=8"
    assert CODECS["extreme"](history=2).spec() == "pvq:groups=2:size=64:history=2"
    assert CODECS["predict+fsq"](dims=48, rank=0).spec() == "predict+fsq:dims=48:levels=4:rank=0"
    assert CODECS["predict+int4"]().spec() == "predict+int4"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: GroupedVQ(groups=0), "at least 1 group, not 0"),
        (lambda: GroupedVQ(size=1), "2 to 65536 codewords, not 1"),
        (lambda: GroupedVQ(size=65537), "not 65537"),
        (lambda: CODECS["pvq"](rank=-1), "rank is -1"),
        (lambda: CODECS["pvq"](history=0), "history is 0"),
        (lambda: BlockInt(bits=3), "8, 4 or 2 bits, not 3"),
        (lambda: BlockInt(block=0), "at least 1 value, not 0"),
        (lambda: ResidualVQ(stages=0), "at least 1 stage, not 0"),
        (lambda: ResidualVQ(groups=0), "at least 1 group, not 0"),
        (lambda: ResidualVQ(groups=5).check(12), "12 values cannot be cut into 5"),
        (lambda: TopK(keep=0), "at least 1 entry, not 0"),
        (lambda: TopK(bits=4), "16 or 8 bits, not 4"),
        (lambda: TopK(keep=13).check(12), "12 values have no 13 to keep; use keep=12"),
        (lambda: TopK().check(65537), "wider than the 65536"),
        (lambda: LowRank(dims=0), "at least 1 coordinate, not dims=0"),
        (lambda: LowRank(bits=2), "8 or 4 bits, not 2"),
        (lambda: LowRank(dims=13).check(12), "12 values have no 13 coordinates; use dims=12"),
        (lambda: FSQ(dims=0), "at least 1 coordinate, not dims=0"),
        (lambda: FSQ(levels=1), "2 to 256 levels, not 1"),
        (lambda: FSQ(levels=257), "2 to 256 levels, not 257"),
        (lambda: FSQ(dims=13).check(12), "12 values have no 13 coordinates"),
        (lambda: Sign(block=0), "at least 1 value, not 0"),
        (lambda: Sign(centre=2), "centre=0.*not 2"),
        (lambda: SegmentMeans(length=0), "at least 1 row, not length=0"),
        (lambda: SegmentMeans(bits=4), "16 or 8 bits, not 4"),
        (lambda: GroupedVQ(groups=5).check(12), "12 values cannot be cut into 5 .* 1, 2, 3, 4, 6, 12"),
    ],
)
def test_wrong_options(wrong, says):
    with pytest.raises(ThinwireError, match=says):
        wrong()
