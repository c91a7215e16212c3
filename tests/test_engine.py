import functools

import numpy as np
import pytest

import tiny
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy

PROMPT = tiny.ids(13)
single = functools.cache(lambda: tiny.engine("single"))  # what it has compiled serves all tests


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
