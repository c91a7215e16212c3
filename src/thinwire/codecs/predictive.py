"""Predictive coding: code only what the receiver cannot predict.

Every device knows the token ids and all that it has decoded in the layer below. A linear predictor guesses a row from
both; the residual is rotated, so that a quantiser finds it decorrelated (and its groups balanced), and quantised.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from thinwire.codecs.base import Codec, CodecParams, Known, Payload
from thinwire.errors import ThinwireError
from thinwire.matmul import matmul

PREFIX = "predict+"  # of the names of predictive codecs
MAX_HISTORY = 4  # tokens back that calibration keeps with each row


@dataclasses.dataclass(frozen=True)
class Predictive(Codec):
    """Any quantiser for the rotated residual of a closed-loop prediction.

    Params of a layer: ``predict (R+D, D)`` and ``bias (D,)``, from token features and the layer below; ``analysis
    (D, D)`` scales and rotates a residual, ``synthesis (D, D)`` is its inverse; and the quantiser's own. Shared by all
    layers: ``project (history·D_model, R)``, from the normalised embeddings of a token and the ones before it. The
    payload is that of the quantiser. Sender and receivers predict from the same decoded rows, so nothing drifts.

    Both products can be made smaller. With a ``bottleneck`` of B, ``predict`` is (R+D, B) and followed by ``expand (B,
    D)``; with A ``axes``, ``analysis`` is (D, A) and ``synthesis`` (A, D): along the other axes rows are as predicted.

    With ``rank=0`` only the layer below is looked at, for models whose inputs are not known everywhere: there is no
    ``project``, and layer 0 is coded like the others, from the mean row.

    Attributes:
        quantiser: what codes the residual; one that is not predictive itself.
        rank: R, token features.
        history: tokens whose embeddings are looked at, the row's own included.
        below: 0 does not look at the layer below.
        rotate: ``joint`` scales keys and values to equal variance and rotates those of all heads together; ``fisher``
            scales errors by what the model's predictions feel of them instead (of keys and values; at other sites it
            is ``joint``); ``apart`` rotates keys and values each for themselves, ``none`` not at all.
        layer0: ``recomputed`` by every device where tokens are known, or ``coded`` like the others.
        bottleneck: B, through how many numbers a prediction goes at most; 0: straight.
        axes: A, how many principal axes of a residual are coded at most, the ones with most variance; 0: all.

    ``below``, ``rotate`` and ``layer0`` are there to see what each part brings.

    Raises:
        ThinwireError: an option is out of range.
    """

    quantiser: Codec
    rank: int = 256
    history: int = 3
    below: int = 1
    rotate: str = "joint"
    layer0: str = "recomputed"
    bottleneck: int = 0
    axes: int = 0

    predicts: ClassVar[bool] = True

    def __post_init__(self):
        if self.rank < 0:
            raise ThinwireError(f"A predictive codec's rank is {self.rank}; use 0 for no token features, or more.")
        if not 1 <= self.history <= MAX_HISTORY:
            raise ThinwireError(f"A predictive codec's history is {self.history}; use 1 to {MAX_HISTORY} tokens.")
        for option, value in (("bottleneck", self.bottleneck), ("axes", self.axes)):
            if value < 0:
                raise ThinwireError(f"{option}={value} is below 0; leave it out for all.")
        if self.axes and self.rotate not in ("joint", "fisher"):
            raise ThinwireError(f"axes={self.axes} of rotate={self.rotate}: use joint or fisher, or leave axes out.")
        if self.below not in (0, 1):
            raise ThinwireError(f"below={self.below} is neither 0 nor 1.")
        for option, value, choices in (
            ("rotate", self.rotate, ("joint", "fisher", "apart", "none")),
            ("layer0", self.layer0, ("recomputed", "coded")),
        ):
            if value not in choices:
                raise ThinwireError(f"{option}={value} is unknown; use one of {', '.join(choices)}.")

    @property
    def name(self) -> str:
        """``predict+`` and the quantiser's name; ``pvq`` for grouped vector quantisation."""
        return "pvq" if self.quantiser.name == "vq" else f"{PREFIX}{self.quantiser.name}"

    @property
    def factors(self) -> frozenset[str]:
        """Those of the token features, the prediction and the rotation, and the quantiser's."""
        return self.quantiser.factors | {"project", "predict", "expand", "analysis", "synthesis"}

    @property
    def learns(self) -> bool:
        """The prediction, whatever the quantiser learns."""
        return True

    @property
    def sends(self) -> bool:
        """As the quantiser does; where nothing is sent, rows are seen as predicted."""
        return self.quantiser.sends

    @property
    def mixes_rows(self) -> bool:
        """As the quantiser does."""
        return self.quantiser.mixes_rows

    @property
    def recomputes(self) -> bool:
        """Layer 0, which follows from the tokens."""
        return self.knows_tokens and self.layer0 == "recomputed"

    @property
    def knows_tokens(self) -> bool:
        """Whether any of their features are used."""
        return self.rank > 0

    def check(self, dim: int) -> None:
        """Raises ThinwireError where the quantiser cannot code what is to be coded of rows of ``dim`` values."""
        self.quantiser.check(self.width(dim))

    def width(self, dim: int) -> int:
        """Values that the quantiser codes of a row of ``dim``."""
        return min(self.axes or dim, dim)

    def token_features(self, shared: CodecParams, inputs_TM: Float[Array, "T M"]) -> Float[Array, "T R"]:
        """What a token and the ones before it tell of its rows, from their embeddings; float32."""
        x_TM = inputs_TM.astype(jnp.float32)
        x_TM = x_TM * jax.lax.rsqrt(jnp.mean(x_TM**2, axis=1, keepdims=True) + 1e-6)
        x_TM = x_TM.astype(shared["project"].dtype)
        before = [jnp.pad(x_TM, ((k, 0), (0, 0)))[: x_TM.shape[0]] for k in range(self.history)]
        return matmul(jnp.concatenate(before, axis=1), shared["project"])

    def predict(self, params: CodecParams, known: Known | None) -> Float[Array, "T D"]:
        """The rows that both ends expect."""
        if known is None:
            raise ValueError("a predictive codec needs to be told what is known of the rows")
        if "predicted" in known:
            return known["predicted"]
        names = ("features", "below") if self.rank else ("below",)
        seen_TK = jnp.concatenate([known[name].astype(params["predict"].dtype) for name in names], axis=1)
        through = ("predict", "expand") if self.bottleneck else ("predict",)
        return functools.reduce(_through, (params[name] for name in through), seen_TK) + params["bias"][None]

    def encode(self, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None = None) -> Payload:
        """The codes of the residual."""
        residual_TD = x_TD.astype(jnp.float32) - self.predict(params, known)
        return self.quantiser.encode(params, _through(residual_TD, params["analysis"]), known)

    def decode(
        self, params: CodecParams, payload: Payload, tokens: int, dim: int, known: Known | None = None
    ) -> Float[Array, "T D"]:
        """The prediction and the decoded residual."""
        coded_TA = self.quantiser.decode(params, payload, tokens, self.width(dim), known)
        return self.predict(params, known) + _through(coded_TA, params["synthesis"])

    def payload_bytes(self, tokens: int, dim: int) -> int:
        """Bytes of the codes."""
        return self.quantiser.payload_bytes(tokens, self.width(dim))

    def bits_per_token(self, dim: int) -> float:
        """Bits of the codes of a row."""
        return self.quantiser.bits_per_token(self.width(dim))

    def init_params(self, key: Array, layers: int, dim: int) -> dict[str, Array]:
        """Random arrays: a weak prediction and a random rotation."""
        keys = jax.random.split(key, 4)
        normal = lambda key, rows, columns: rows**-0.5 * jax.random.normal(key, (layers, rows, columns))
        rotation_LDA = jnp.linalg.qr(jax.random.normal(keys[0], (layers, dim, dim)))[0][:, :, : self.width(dim)]
        through = min(self.bottleneck or dim, dim)
        expand = {"expand": normal(keys[3], through, dim)} if self.bottleneck else {}
        return {
            "predict": 0.1 * normal(keys[1], self.rank + dim, through),
            **expand,
            "bias": jnp.zeros((layers, dim)),
            "analysis": rotation_LDA,
            "synthesis": rotation_LDA.swapaxes(1, 2),
            **self.quantiser.init_params(keys[2], layers, self.width(dim)),
        }

    def init_shared(self, key: Array, width: int) -> dict[str, Array]:
        """A random projection of token features, if there are any."""
        if not self.rank:
            return {}
        features = self.history * width
        return {"project": features**-0.5 * jax.random.normal(key, (features, self.rank))}

    def encode_flops(self, dim: int) -> float:
        """Prediction, rotation and quantisation."""
        return self._predict_flops(dim) + 2.0 * dim * self.width(dim) + self.quantiser.encode_flops(self.width(dim))

    def decode_flops(self, dim: int) -> float:
        """Prediction and rotation back."""
        return self._predict_flops(dim) + 2.0 * dim * self.width(dim) + self.quantiser.decode_flops(self.width(dim))

    def own_flops(self, dim: int) -> float:
        """Encoding and decoding from one prediction."""
        return super().own_flops(dim) - self._predict_flops(dim)

    def _predict_flops(self, dim: int) -> float:
        known, through = self.rank + dim, min(self.bottleneck, dim)
        return 2.0 * through * (known + dim) if self.bottleneck else 2.0 * known * dim

    def options(self) -> dict[str, Any]:
        """The quantiser's options, then those of the prediction."""
        of_prediction = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "quantiser"}
        return {**self.quantiser.options(), **of_prediction}

    def defaults(self) -> dict[str, Any]:
        """Those of the quantiser too."""
        return {**self.quantiser.defaults(), **super().defaults()}


# Options of a predictive codec that are not its quantiser's.
PREDICTION_OPTIONS = tuple(f.name for f in dataclasses.fields(Predictive) if f.name != "quantiser")


@dataclasses.dataclass(frozen=True)
class AfterPrediction:
    """Makes a predictive codec around one kind of quantiser; the options of both are given flat.

    Attributes:
        quantiser: makes the quantiser from its options.
        defaults: options of the quantiser, where they differ here from its own.
    """

    quantiser: Callable[..., Codec]
    defaults: tuple[tuple[str, Any], ...] = ()

    def __call__(self, **options: Any) -> Predictive:
        """Returns the codec."""
        own = {name: options.pop(name) for name in PREDICTION_OPTIONS if name in options}
        return Predictive(self.quantiser(**{**dict(self.defaults), **options}), **own)


def _through(rows_TA, matrix_AB):
    """Rows times a matrix of maybe fewer bits: multiplied in its type, float32 again behind it."""
    return matmul(rows_TA.astype(matrix_AB.dtype), matrix_AB)
