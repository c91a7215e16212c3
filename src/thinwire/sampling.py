"""How the next token is chosen from its logits: the likeliest, or drawn from the nucleus by a seed."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from thinwire.errors import ThinwireError

SEEDS = 2**32
_COLDEST = float(np.finfo(np.float32).tiny)  # colder is 0 in float32


class Draw(NamedTuple):
    """What a token is drawn by, as numbers that are traced, so that another temperature is no other program."""

    seed: np.uint32 | Array
    step: np.uint32 | Array
    temperature: np.float32 | Array
    top_p: np.float32 | Array


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token; else logits are divided by it and a token is drawn.
        top_p: only the likeliest tokens are drawn from, as few as make up this probability together.
        seed: of what is drawn.

    Raises:
        ThinwireError: the temperature is negative, infinite or NaN, top_p not in (0, 1], or the seed out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ThinwireError(f"The temperature is {self.temperature}; give 0 or a positive number.")
        if not 0 < self.top_p <= 1:
            raise ThinwireError(f"top-p is {self.top_p}; give a number above 0 and at most 1.")
        if not 0 <= self.seed < SEEDS:
            raise ThinwireError(f"The seed is {self.seed}; give a whole number from 0 to {SEEDS - 1}.")

    def draw(self, step: int) -> Draw | None:
        """What token ``step`` of a continuation is drawn by; None where the likeliest is taken."""
        if self.temperature < _COLDEST:
            return None
        return Draw(np.uint32(self.seed), np.uint32(step), np.float32(self.temperature), np.float32(self.top_p))


def nucleus(logits_V: Float[Array, " V"], top_p: float | np.float32 | Float[Array, ""]) -> Bool[Array, " V"]:
    """The smallest set of tokens whose probability is at least ``top_p``; of equally likely ones the lower id first."""
    order_V = jnp.argsort(-logits_V, stable=True)
    p_V = jax.nn.softmax(logits_V[order_V])
    before_V = jnp.concatenate([jnp.zeros(1), jnp.cumsum(p_V)[:-1]])
    kept_V = (before_V < top_p) | (jnp.asarray(top_p) >= 1)  # a rounded sum may reach 1 before the end
    return jnp.zeros(len(logits_V), bool).at[order_V].set(kept_V)


def choose(logits_V: Float[Array, " V"], draw: Draw | None) -> Int[Array, ""]:
    """The next token; to be traced."""
    if draw is None:
        return jnp.argmax(logits_V).astype(jnp.int32)
    scaled_V = (logits_V - logits_V.max()) / draw.temperature  # what is divided is 0 at most: it does not overflow
    kept_V = nucleus(scaled_V, draw.top_p)
    key = jax.random.fold_in(jax.random.key(draw.seed), draw.step)
    return jax.random.categorical(key, jnp.where(kept_V, scaled_V, -jnp.inf)).astype(jnp.int32)
