"""The optimiser: AdamW with a warm-up and a cosine, as nearly every Transformer is trained."""

import dataclasses

import jax
import optax

from thinwire.errors import ThinwireError


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """AdamW [Optax].

    Attributes:
        rate: the highest learning rate.
        steps: of the whole training.
        warmup: steps in which the rate rises from 0.
        last: the rate at the end, as a part of the highest.
        decay: weight decay, of matrices only.
        clip: largest norm of a gradient; 0 for any.
        b2: decay of the second moment.

    Raises:
        ThinwireError: a value is out of range.
    """

    rate: float = 1e-3
    steps: int = 1000
    warmup: int = 50
    last: float = 0.05
    decay: float = 0.05
    clip: float = 1.0
    b2: float = 0.98

    def __post_init__(self):
        if not self.rate > 0:
            raise ThinwireError(f"The learning rate is {self.rate}; use a positive one.")
        if self.steps < 1 or not 0 <= self.warmup <= self.steps:
            raise ThinwireError(f"{self.warmup} of {self.steps} steps cannot be a warm-up; use 0 to all of them.")

    def schedule(self) -> optax.Schedule:
        """The rate by step."""
        return optax.warmup_cosine_decay_schedule(0.0, self.rate, self.warmup, self.steps, self.last * self.rate)

    def make(self) -> optax.GradientTransformation:
        """The transformation of gradients into changes."""
        matrices = lambda params: jax.tree_util.tree_map_with_path(_is_matrix, params)
        adamw = optax.adamw(self.schedule(), b2=self.b2, weight_decay=self.decay, mask=matrices)
        return optax.chain(optax.clip_by_global_norm(self.clip), adamw) if self.clip else adamw


def _is_matrix(path, x) -> bool:
    """Not gains, biases and what else is a row a layer."""
    name = str(getattr(path[-1], "key", ""))
    return x.ndim >= 2 and not name.startswith("b") and not name.endswith(("norm", "scale", "bias", "positions"))
