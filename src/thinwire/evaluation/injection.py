"""Four places where the same compressor can act, to see what it costs to cut the flow of information.

A set of edges of the computation is a *cut* if every way from the inputs to the outputs crosses it. Coding the residual
stream between two layers is one. Coding what the attention and the feed-forward layer add to it is not, as the stream
itself goes by; nor is coding keys and values, of all tokens or of other devices' only. [papers.md 4.2]

The first three act here, on one device that sends nothing; the fourth is ``Sequence``.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.layout import contiguous
from thinwire.strategies import Sequence, Single, Strategy
from thinwire.strategies.base import LayerScope
from thinwire.strategies.parse import parse_codec
from thinwire.strategies.tensor import SITES as SUMS


@dataclasses.dataclass(frozen=True)
class Injected(Single):
    """The single device, with a codec there and back somewhere in each layer, on the rows of all tokens.

    Token 0 of a causal model stays exact, as it does in ``Sequence``, where every device recomputes it. Codecs that
    predict are refused: their predictions are of keys and values that other devices hold.
    """

    def layout(self, dims, tokens, devices, split):
        """All tokens on one device, however many are spoken of."""
        del dims, devices, split
        return contiguous(tokens, 1)

    def sites_coded(self):
        """Something is coded, though nothing is sent."""
        return True

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError where the codec cannot act in this place."""
        codec = self.codec.spec()
        if self.codec.predicts:
            raise ThinwireError(f"{codec} predicts other devices' keys and values and cannot act at {self.name}.")
        if not self.codec.sends:
            raise ThinwireError(f"{codec} sends nothing, and {self.name} needs a codec that does; use vq or int8.")
        if self.codec.mixes_rows and dims.causal:
            raise ThinwireError(
                f"{codec} mixes neighbouring tokens, and at {self.name} a causal model's tokens would hear of later "
                "ones; use vq or int8."
            )
        super().check(dims)

    def there_and_back(self, scope: LayerScope, x_TD: Float[Array, "T D"], site: str) -> Float[Array, "T D"]:
        """The rows as whoever decodes them would have them."""
        params = scope.codecs.get(site, {})
        payload = self.codec.encode(params, x_TD)
        seen_TD = self.codec.decode(params, payload, x_TD.shape[0], x_TD.shape[1]).astype(x_TD.dtype)
        exact = int(scope.setting.dims.causal)
        return jnp.concatenate([x_TD[:exact], seen_TD[exact:]])


@dataclasses.dataclass(frozen=True)
class Residual(Injected):
    """The residual stream is coded where it enters a layer: a cut of the flow of information.

    Attributes:
        every: layers between two cuts: what enters layers ``every``, ``2 · every``, ... is coded. What enters layer 0
            never is, as it has not been computed yet.
    """

    every: int = 1
    name = "residual"

    def __post_init__(self):
        if self.every < 1:
            raise ThinwireError(f"every={self.every} is below 1.")

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """The layer's input."""
        del dims
        return ("x",)

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError where nothing would be cut."""
        if self.every >= dims.layers:
            raise ThinwireError(
                f"every={self.every} cuts nothing in {dims.layers} layers; use {dims.layers - 1} or less."
            )
        super().check(dims)

    def coded_layers(self, dims: ModelDims) -> int:
        """The layers whose input is coded."""
        return len(range(self.every, dims.layers, self.every))

    def start(self, setting, inputs, shared):
        """The number of the layer is carried along."""
        del setting, inputs, shared
        return jnp.zeros((), jnp.int32)

    def each_row(self, scope, function, *rows_T):
        """Both halves of a layer work on the layer's input, the first of the rows: each is given it coded."""
        cut = (scope.carried > 0) & (scope.carried % self.every == 0)
        coded = lambda x_TD: self.there_and_back(scope, x_TD, "x")
        return function(jax.lax.cond(cut, coded, lambda x_TD: x_TD, rows_T[0]), *rows_T[1:])

    def reduce(self, scope, partial_TD, site):
        """The last sum of a layer ends it."""
        if site == SUMS[-1]:
            scope.carried = scope.carried + 1
        return partial_TD


@dataclasses.dataclass(frozen=True)
class Sums(Injected):
    """What attention and feed-forward layer add to the residual stream is coded, each once: no cut, the stream goes by.

    It is where tensor parallelism sends; there each sum is coded twice, as parts and whole.
    """

    name = "sums"

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """The two sums of a layer."""
        del dims
        return SUMS

    def reduce(self, scope, partial_TD, site):
        """The sum as decoded."""
        return self.there_and_back(scope, partial_TD, site)


@dataclasses.dataclass(frozen=True)
class AllKeysValues(Injected):
    """Keys and values of all tokens are coded, a token's own too: no cut, the residual stream stays exact."""

    name = "all_kv"

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """Keys before rotation, and values."""
        del dims
        return ("kv",)

    def attend(self, scope, call):
        """All tokens, as decoded."""
        coded = self.there_and_back(scope, call.sites["kv"], "kv")
        return super().attend(scope, dataclasses.replace(call, sites={**call.sites, "kv": coded}))


PLACES = ("residual", "sums", "all_kv", "remote_kv")


def injected(place: str, codec: str, every: int = 1) -> Strategy:
    """The strategy by which ``codec`` acts at a place; ``every`` is for ``residual`` only.

    ``remote_kv`` is sequence parallelism without a halo, so that all remote keys and values are coded.

    Raises:
        ThinwireError: there is no such place or codec.
    """
    made = parse_codec(codec)
    if place == "remote_kv":
        return Sequence(made, site="kv", halo=0)
    if place == "residual":
        return Residual(made, every=every)
    others = {"sums": Sums, "all_kv": AllKeysValues}
    if place not in others:
        raise ThinwireError(f"there is no place {place!r}; there are {', '.join(PLACES)}.")
    return others[place](made)


def place_of(strategy: Strategy) -> str:
    """The place at which a strategy's codec acts."""
    return strategy.name if isinstance(strategy, Injected) else "remote_kv"


def bits(strategy: Strategy, dims: ModelDims) -> tuple[float, int]:
    """Bits of a token in each tensor that is coded (their mean), and how many tensors of the whole model are."""
    tensors = strategy.coded_layers(dims) * len(strategy.sites(dims))
    return strategy.bits_per_token(dims) * dims.layers / tensors, tensors
