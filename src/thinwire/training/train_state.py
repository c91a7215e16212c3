"""All that a step of training changes, as one tree of arrays."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array


class TrainState(NamedTuple):
    """What is saved, and goes from step to step; arrays of JAX, or of NumPy when it has come back to the host.

    Attributes:
        step: steps done, int32.
        params: ``{"model": ..., "codec": ...}``: what gradients change; ``codec`` is {} unless it learns by gradient.
        opt_state: the optimiser's.
        codecs: the codec's arrays by site that gradients do not change.
        averages: running sums and counts of EMA codebooks, by site.
        residuals: the distribution of the residual that noise is drawn from; {} without noise.
        key: key data (2,) of the randomness of training, uint32.
    """

    step: Any
    params: dict[str, Any]
    opt_state: Any
    codecs: dict[str, dict[str, Any]]
    averages: dict[str, dict[str, Any]]
    residuals: dict[str, Any]
    key: Any

    @property
    def arrays(self) -> dict[str, dict[str, Any]]:
        """All of the codec's arrays, however they learn."""
        return {**self.codecs, **self.params["codec"]}

    def random(self, purpose: int) -> Array:
        """The key of this step for one purpose."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(self.key), self.step), purpose)
