"""The registry of families of models.

A new one is one file and one line here. (Not in the package's ``__init__``, so that a family can import what lies
beside it.)
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from thinwire.dims import ModelDims
from thinwire.models import bert, gpt2, llama, vit
from thinwire.strategies.base import Setting, Strategy


@runtime_checkable
class Config(Protocol):
    """What every configuration of a model says of itself; the rest is its family's."""

    @property
    def family(self) -> str:
        """A name in ``FAMILIES``."""
        ...


@runtime_checkable
class Family(Protocol):
    """What the module of a family offers. An input is one row a token: an id, or the values of a patch."""

    def dims(self, config: Any) -> ModelDims:
        """The sizes that strategies and formulas need."""
        ...

    def param_shapes(self, config: Any) -> dict:
        """The tree of array shapes; every array of ``layers`` has a leading axis of layers."""
        ...

    def param_axes(self, config: Any) -> dict:
        """The same tree with the meaning of each axis, by which strategies shard."""
        ...

    def inputs_spec(self, config: Any, tokens: int) -> jax.ShapeDtypeStruct:
        """The shape and type of the inputs of so many tokens."""
        ...

    def check_inputs(self, config: Any, inputs: Any) -> np.ndarray:
        """The inputs as ``forward`` wants them, or ThinwireError."""
        ...

    def embed(
        self, params: Mapping[str, Any], config: Any, inputs_T: Any, position_T: Int[Array, " T"]
    ) -> Float[Array, "T D"]:
        """What enters layer 0, of any inputs at their positions."""
        ...

    def forward(
        self,
        params: Mapping[str, Any],
        config: Any,
        inputs_T: Any,
        position_T: Int[Array, " T"],
        strategy: Strategy,
        setting: Setting,
        codecs: Mapping[str, Mapping[str, Any]] | None = None,
        cache: Mapping[str, Array] | None = None,
        prompt: Any = None,
    ) -> tuple[Float[Array, "R D"], dict[str, Any]]:
        """Runs all layers on the rows of one device; ``prompt`` is all inputs, where every device knows them."""
        ...

    def unembed(self, params: Mapping[str, Any], x_TD: Float[Array, "T D"]) -> Float[Array, "T V"]:
        """The outputs of normalised rows, float32: logits, or the rows themselves."""
        ...


FAMILIES: dict[str, Family] = {"llama": llama, "gpt2": gpt2, "bert": bert, "vit": vit}
