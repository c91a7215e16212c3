"""What every codec can do: turn rows into a payload for the wire, and back."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Array, Float

# A codec's learnt arrays for one site of one layer ({} where nothing is learnt).
CodecParams = Mapping[str, Array]
# Beside the sites of a codec's learnt arrays: those that all layers share, without a leading axis of layers.
SHARED = "all_layers"
# What crosses the wire: named arrays, already packed to the bytes that are sent.
Payload = dict[str, Array]
# What sender and receiver both know of the rows beforehand (side information for predictive codecs).
Known = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Codec(abc.ABC):
    """Encodes rows of floats into a payload of few bytes; frozen and hashable, so it can be a static argument.

    A codec composes *predict → transform → quantise*. A predictive codec wraps one of the quantisers, subtracts what
    ``known`` predicts before it and adds it after. Quantisers ignore ``known``, but for those that mix rows.
    """

    # Whether rows are predicted from what both ends know: ``known`` then holds ``below`` (T, D), the rows of the layer
    # below as every receiver has decoded them, and, for a codec that knows tokens, ``features`` (T, R) of them; or
    # ``predicted`` (T, D), what ``predict`` has made of these before.
    predicts: ClassVar[bool] = False
    # Options that ``spec`` writes even where they have their default value.
    always_written: ClassVar[tuple[str, ...]] = ()

    @property
    def learns(self) -> bool:
        """Whether calibration has to learn arrays first."""
        return False

    @property
    def factors(self) -> frozenset[str]:
        """Names of learnt arrays that rows are multiplied by, held in the type of the model; others are float32."""
        return frozenset()

    @property
    def sends(self) -> bool:
        """Whether there is a payload at all. Rows that are neither sent nor predicted are invisible to receivers."""
        return True

    @property
    def mixes_rows(self) -> bool:
        """Whether a decoded row depends on its neighbours.

        The rows of a payload must then be of consecutive tokens, and ``known`` may hold ``valid`` (T,), False where a
        row is padding.
        """
        return False

    @property
    def recomputes(self) -> bool:
        """Whether every device recomputes all rows of layer 0, which then needs no codes."""
        return False

    @property
    def knows_tokens(self) -> bool:
        """Whether every device is to know all tokens: rows are predicted from them and layer 0 is recomputed."""
        return False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name under which the registry knows the codec."""

    @abc.abstractmethod
    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """Returns the packed payload of ``T`` rows."""

    @abc.abstractmethod
    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """Returns the float32 rows that the receiver sees."""

    @abc.abstractmethod
    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of one payload of ``tokens`` rows of ``dim`` values, headers included (the formula)."""

    @abc.abstractmethod
    def bits_per_token(self, dim: int) -> float:
        """Bits a row costs on the wire, before the payload is rounded up to whole bytes."""

    def encode_flops(self, dim: int) -> float:
        """FLOPs of coding a row that a cost model should count; 0 where they do not matter."""
        del dim
        return 0.0

    def decode_flops(self, dim: int) -> float:
        """FLOPs of decoding a row that a cost model should count; 0 where they do not matter."""
        del dim
        return 0.0

    def own_flops(self, dim: int) -> float:
        """FLOPs of a sender's own row: coding it and, where predictions go on from what others see, decoding it."""
        return self.encode_flops(dim) + self.decode_flops(dim) * self.predicts

    def token_features(self, shared: CodecParams, inputs_TM: Float[Array, "T M"]) -> Float[Array, "T R"]:
        """For codecs that predict: what the tokens tell of their rows."""
        raise TypeError(f"{self.spec()} predicts nothing")

    def check(self, dim: int) -> None:  # noqa: B027 - most codecs take any width
        """Raises ThinwireError where rows of ``dim`` values cannot be coded."""

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Random arrays with a leading axis of ``layers``, for timing and tests; {} if nothing is learnt."""
        del key, layers, dim
        return {}

    def init_shared(self, key: Array, width: int) -> dict[str, Array]:
        """Random arrays that all layers share, for a model of this width; {} if there are none."""
        del key, width
        return {}

    def options(self) -> dict[str, Any]:
        """The options of this codec that its name does not imply, in the order in which they are written."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def defaults(self) -> dict[str, Any]:
        """The default value of each option that ``spec`` leaves out where it has that value."""
        return {f.name: f.default for f in dataclasses.fields(self) if f.name not in self.always_written}

    def spec(self) -> str:
        """The canonical string of this codec, such as ``int4`` or ``vq:groups=16:size=1024``.

        Options that have their default value are left out, but for those in ``always_written``.
        """
        defaults = self.defaults()
        written = (
            f"{option}={value}"
            for option, value in self.options().items()
            if option not in defaults or value != defaults[option]
        )
        return ":".join((self.name, *written))
