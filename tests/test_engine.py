import copy
import dataclasses
import functools

import numpy as np
import pytest

import tiny
from thinwire.engine import Engine, Sampling
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy

PROMPT = tiny.ids(13)
single = functools.cache(lambda: tiny.engine("single"))  # what it has compiled serves all tests


def greedy_without_a_cache(prompt, count):
    """The reference: all logits again for each token, at one padded length (what follows cannot be seen)."""
    engine = single()
    ids = list(prompt)
    for _ in range(count):
        padded = np.zeros(len(prompt) + count, np.int32)
        padded[: len(ids)] = ids
        ids.append(int(engine.logits(padded)[len(ids) - 1].argmax()))
    return ids[len(prompt) :]


def test_greedy_generation_equals_repeated_whole_passes():
    expected = greedy_without_a_cache(PROMPT, 8)
    assert len(set(expected)) > 2  # not a rut that hides mistakes
    assert list(single().generate(PROMPT, 8)) == expected
    for spec, devices, split in (
        ("sequence:float32:sink=1", 3, (1.0, 3.0, 2.0)),
        ("ring:float32:chunks=2", 3, None),
        ("tensor:float32", 2, None),
    ):
        assert list(tiny.engine(spec, devices, split).generate(PROMPT, 8)) == expected, spec


def test_coded_context_is_kept_as_it_was_seen():
    """One more prompt token by a pass, or by the cache of the last device: the same token follows."""
    engine = tiny.engine("sequence:vq:groups=6:size=16", 2)
    first, second = engine.generate(PROMPT, 2)
    assert first == int(engine.time_to_first_token(PROMPT).argmax())
    np.testing.assert_array_equal(engine.time_to_first_token(PROMPT), engine.logits(PROMPT)[-1])
    # The last device goes on alone: its own tokens exact and the others' decoded, which is what a longer pass does
    # where the split leaves the first device's tokens as they were.
    longer = tiny.engine("sequence:vq:groups=6:size=16", 2, (6.0, 7.0))
    assert engine.layout(13).lengths == (*longer.layout(14).lengths[:1], 6)
    assert second == int(longer.time_to_first_token(np.append(PROMPT, first).astype(np.int32)).argmax())


def test_sampling_is_reproducible_by_its_seed():
    engine = single()
    draw = lambda seed, temperature=1.0: list(engine.generate(PROMPT, 8, Sampling(temperature, seed)))
    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(3, temperature=1e-4) == list(engine.generate(PROMPT, 8))  # cold: the likeliest


def test_generation_stops_at_an_end_token_without_telling_it():
    tokens = list(single().generate(PROMPT, 8))
    stop = tokens[4]

    class Ends:
        eos_ids = (stop,)

    engine = copy.copy(single())  # with what is compiled
    engine.model = dataclasses.replace(engine.model)
    object.__setattr__(engine.model, "tokenizer", Ends())  # frozen, and a whole tokenizer is not needed
    found = list(engine.generate(PROMPT, 8))
    assert found == tokens[: tokens.index(stop)]


def test_the_context_is_used_to_its_last_token():
    context = tiny.CONFIG.context
    assert len(list(single().generate(tiny.ids(context - 2), 2))) == 2


VQ = "sequence:vq:groups=6:size=16"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: single().logits(tiny.ids(65)), "65 tokens.*at most 64"),
        (lambda: list(single().generate(tiny.ids(60), 5)), "60 prompt tokens and 5"),
        (lambda: list(single().generate(tiny.ids(6), 0)), "max-tokens is 0"),
        (lambda: single().logits(np.zeros(0, np.int32)), "empty"),
        (lambda: list(single().generate(np.zeros(0, np.int32), 3)), "empty"),
        (lambda: single().logits(np.array([3, 64], np.int32)), "3 to 64.*0 to 63"),
        (lambda: single().logits(np.array([-1, 2], np.int32)), "-1 to 2"),
        (lambda: tiny.engine("single", 2).logits(PROMPT), "1 device"),
        (lambda: tiny.engine("sequence:float32", 0), "0 devices"),
        (lambda: tiny.engine("tensor:float32", -2), "-2 devices"),
        (lambda: tiny.engine("sequence:float32", 14).logits(PROMPT), "13 tokens.*14 devices"),
        (lambda: tiny.engine("sequence:float32", 2, (1.0, 2.0, 3.0)).logits(PROMPT), "2 devices"),
        (lambda: tiny.engine("sequence:vq:groups=5:size=16"), "5 equal groups"),
        (lambda: Engine(tiny.model(), parse_strategy(VQ), 2), "needs codebooks for kv.*thinwire calibrate"),
        (lambda: Engine(tiny.model(), parse_strategy("tensor:vq:groups=6:size=16"), 2), "attn_out, mlp_out"),
    ],
)
def test_impossible_requests_are_one_clear_sentence(act, says):
    with pytest.raises(ThinwireError, match=says) as caught:
        act()
    assert str(caught.value).endswith(".")


def test_work_is_counted():
    """Single: 2 FLOPs a weight and token, 4·H·d a visible pair and layer, and the head once."""
    c, tokens = tiny.CONFIG, 13
    weights = c.D * c.d * (2 * c.H + 2 * c.K) + 3 * c.D * c.F
    pairs = tokens * (tokens + 1) // 2
    expected = c.L * (2 * weights * tokens + 4 * c.H * c.d * pairs) + 2 * c.D * c.V
    assert single().flops(tokens) == (expected,)
    for spec in ("sequence:float32:site=kv", "tensor:float32"):
        shares = tiny.engine(spec, 3).flops(12)
        assert len(shares) == 3
        assert sum(shares) == pytest.approx(single().flops(12)[0] + 2 * 2 * c.D * c.V, rel=0.03)
