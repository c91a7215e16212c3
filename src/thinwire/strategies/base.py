"""The two questions that every strategy answers: what may my tokens attend to, and how do partial sums become whole."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from thinwire.attention.call import AttentionCall
from thinwire.codecs.base import Codec, CodecParams
from thinwire.dims import ModelDims
from thinwire.layout import PAD, TokenLayout, contiguous

# Which keys and values a prefill emits for generation, of each device: none; all that it has seen, its own exact and
# the others' as decoded; its own only; its own, and the others' payloads as they came.
Keep = Literal["", "seen", "own", "codes"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is fixed while a program is traced: the model's sizes and who holds which tokens.

    Attributes:
        streams: payloads go only to the devices that look at them (``thinwire.wire.streams``), not to all.
    """

    dims: ModelDims
    layout: TokenLayout
    keep_cache: Keep = ""
    streams: bool = False


@dataclasses.dataclass
class LayerScope:
    """One layer while it is traced: what it is given beside its weights, and what it hands out beside its rows."""

    setting: Setting
    codecs: Mapping[str, CodecParams]  # learnt arrays of the codec, by site
    cache: Mapping[str, Any]  # this layer's part of a cache, for strategies that decode with one
    carried: Any  # handed from layer to layer, for codecs that predict a layer from the one below
    inputs: Callable[[Array], Array] | None = None  # positions (T,) -> what enters layer 0 there, of the whole prompt
    first: bool = False  # layer 0, run apart because its context follows from the tokens alone
    predicted: Any = None  # what a codec predicts of the rows of the device that is coded now, once that is known
    emitted: dict[str, Any] = dataclasses.field(default_factory=dict)  # stacked over layers


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes and messages that each device sends, by formula, and the rounds in which it does."""

    bytes_by_device: tuple[int, ...]
    messages_by_device: tuple[int, ...]
    rounds: int  # steps that wait for one another: one message to each peer, or to the next in a ring
    ahead: bool = False  # no two devices wait for each other: what is sent travels while they compute

    def times(self, layers: int) -> "Traffic":
        """The traffic of so many layers like this one."""
        every = lambda counts: tuple(layers * count for count in counts)
        return Traffic(every(self.bytes_by_device), every(self.messages_by_device), layers * self.rounds, self.ahead)


class Strategy(abc.ABC):
    """Who owns which tokens and weights, and what is sent. Frozen dataclasses; they know no model by name."""

    name: ClassVar[str]
    splits_tokens: ClassVar[bool] = True  # a device has all heads of its own tokens, not some heads of all tokens
    codec: Codec

    @property
    def recomputed_backwards(self) -> bool:
        """Whether gradients compute each layer again instead of keeping what is in it."""
        return False

    def layout(self, dims: ModelDims, tokens: int, devices: int, split: tuple[float, ...] | None) -> TokenLayout:
        """Which device holds which tokens of the result."""
        del dims
        return contiguous(tokens, devices, split)

    def positions(self, setting: Setting) -> Int[Array, " T"]:
        """The positions of the rows that this device works on (traced inside the SPMD program): by default all."""
        return jnp.arange(setting.layout.tokens)

    def start(self, setting: Setting, inputs: Callable[[Array], Array], shared: CodecParams) -> Any:
        """What is carried into the first layer; ``shared`` is what the codec has learnt for all layers."""
        del setting, inputs, shared
        return ()

    def first_apart(self, dims: ModelDims) -> bool:
        """Whether layer 0 is another program than the rest."""
        del dims
        return False

    @abc.abstractmethod
    def attend(self, scope: LayerScope, call: AttentionCall) -> Float[Array, "T H d"]:
        """What may my tokens attend to?"""

    def reduce(self, scope: LayerScope, partial_TD: Float[Array, "T D"], site: str) -> Float[Array, "T D"]:
        """How do partial sums become whole? Where every device holds whole weights, they are whole already."""
        del scope, site
        return partial_TD

    def each_row(self, scope: LayerScope, function: Callable[..., Any], *rows_T: Array) -> Any:
        """``function`` of rows, each of which it works on by itself; empty rows may be left out, and are zeros then."""
        del scope
        return function(*rows_T)

    def output(self, setting: Setting, x_TD: Float[Array, "T D"]) -> Float[Array, "R D"]:
        """The rows of ``setting.layout`` (shared ones first) among the rows worked on."""
        del setting
        return x_TD

    def join(self, setting: Setting, values_NR: np.ndarray) -> np.ndarray:
        """Results by device (N, rows of the layout, ...) as those of the sequence (T, ...), on the host."""
        return setting.layout.join(values_NR)

    def shard(self, params: Any, axes: Any, dims: ModelDims, devices: int) -> tuple[Any, Any]:
        """The weights each device holds, and a tree of bools: True where an array has a leading axis of devices."""
        import jax

        del axes, dims, devices
        return params, jax.tree.map(lambda _: False, params)

    def sites(self, dims: ModelDims) -> tuple[str, ...]:
        """The sites where the codec is used."""
        del dims
        return ()

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError where the codec cannot code this model's values."""
        for site in self.sites(dims):
            self.codec.check(dims.site_dim(site))

    @abc.abstractmethod
    def traffic(self, setting: Setting) -> Traffic:
        """Bytes and messages of one layer, by formula."""

    @abc.abstractmethod
    def flops(self, setting: Setting) -> tuple[float, ...]:
        """FLOPs of one layer on each device, coding included."""

    def coded_layers(self, dims: ModelDims) -> int:
        """Layers in which anything is sent."""
        return dims.layers - self.first_apart(dims)

    def bits_per_token(self, dims: ModelDims) -> float:
        """Bits a token costs in a layer for each device that receives it, averaged over the layers."""
        bits = sum(self.codec.bits_per_token(dims.site_dim(site)) for site in self.sites(dims))
        return bits * self.coded_layers(dims) / dims.layers

    def gather_cache(self, setting: Setting, cache: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Of all devices' caches (N, L, ...), the one to go on from: k, v (L, C, K, d) and position (L, C)."""
        device, _ = setting.layout.places
        last = int(device[-1])
        return {name: np.asarray(values[last]) for name, values in cache.items()}

    def own_positions(self, setting: Setting) -> Int[np.ndarray, "N C"]:
        """The positions of the rows that each device emits as its own, PAD where a row is empty.

        A shared token is device 0's alone, so that it counts once where the devices' attention is merged.
        """
        layout = setting.layout
        shared = np.full((layout.devices, layout.shared), PAD, np.int32)
        shared[0] = np.arange(layout.shared)
        return np.concatenate([shared, layout.positions_NR], axis=1)

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as they are written."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if f.name != "codec" and getattr(self, f.name) != f.default
        }

    def spec(self) -> str:
        """The strategy as it is written on the command line."""
        parts = [self.name] + ([self.codec.spec()] if self.sites_coded() else [])
        return ":".join(parts + [f"{key}={value}" for key, value in self.options().items()])

    def sites_coded(self) -> bool:
        """Whether anything is sent at all."""
        return True
