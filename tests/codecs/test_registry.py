"""What holds for every codec: the formula is the bytes, one batch is a loop, the spec is canonical."""

import jax
import jax.numpy as jnp
import pytest

from thinwire.codecs import ALIASES, CODECS, PRESETS, BlockInt, GroupedVQ, PredictiveVQ
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
]
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
        assert 0 <= 8 * sent - tokens * codec.bits_per_token(D) < 8


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
    assert codec.name == ("pvq" if name in PRESETS else ALIASES.get(name, name))
    assert hash(codec) == hash(CODECS[name]())
    assert bool(codec.init_params(jax.random.key(0), 1, 48)) == codec.learns


def test_specs_are_canonical():
    assert CODECS["fp16"]().spec() == "float16"
    assert CODECS["int4"]().spec() == "int4"
    assert CODECS["int4"](block=32).spec() == "int4:block=32"
    assert CODECS["vq"]().spec() == "vq:groups=16:size=1024"
    assert CODECS["vq"](size=16).spec() == "vq:groups=16:size=16"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: GroupedVQ(groups=0), "at least 1 group, not 0"),
        (lambda: GroupedVQ(size=1), "2 to 65536 codewords, not 1"),
        (lambda: GroupedVQ(size=65537), "not 65537"),
        (lambda: PredictiveVQ(rank=-1), "rank is -1"),
        (lambda: PredictiveVQ(history=0), "history is 0"),
        (lambda: BlockInt(bits=3), "8, 4 or 2 bits, not 3"),
        (lambda: BlockInt(block=0), "at least 1 value, not 0"),
        (lambda: GroupedVQ(groups=5).check(12), "12 values cannot be cut into 5 .* 1, 2, 3, 4, 6, 12"),
    ],
)
def test_wrong_options(wrong, says):
    with pytest.raises(ThinwireError, match=says):
        wrong()
