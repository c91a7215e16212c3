"""The Flax module of every family: declares the parameters and runs ``forward`` on one device's rows."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from thinwire.models.initial import initialise
from thinwire.strategies.base import Setting, Strategy
from thinwire.strategies.single import Single


class TransformerModule(nn.Module):
    """A model of any family, by its configuration.

    Codebooks live in a collection of their own: ``apply({"params": p, "codebooks": c}, inputs, positions)``.
    """

    config: Any
    strategy: Strategy = Single()
    setting: Setting | None = None

    @nn.compact
    def __call__(self, inputs_T: Any, position_T: Int[Array, " T"] | None = None) -> Float[Array, "T V"]:
        """The outputs of the device's rows."""
        from thinwire.models.families import FAMILIES  # which imports this

        family, tokens = FAMILIES[self.config.family], inputs_T.shape[0]
        setting = self.setting
        if setting is None:
            model = family.dims(self.config)
            setting = Setting(model, self.strategy.layout(model, tokens, 1, None))
        position_T = jnp.arange(tokens) if position_T is None else position_T
        shapes = family.param_shapes(self.config)
        params = {name: self.param(name, lambda key, n=name: initialise(key, {n: shapes[n]})[n]) for name in shapes}
        codecs = dict(self.variables.get("codebooks", {}))
        x_TD, _ = family.forward(params, self.config, inputs_T, position_T, self.strategy, setting, codecs)
        return family.unembed(params, x_TD)
