"""The ways to go on from an engine's prefill, token by token: on one device, or on all of them."""

import abc
import difflib
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from thinwire.codecs.floats import Float as FloatCodec
from thinwire.dims import ModelDims
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.layout import PAD
from thinwire.models.families import FAMILIES
from thinwire.sampling import Draw, choose
from thinwire.strategies.base import Keep, Setting, Strategy, Traffic
from thinwire.strategies.cached import Cached
from thinwire.strategies.recalled import Recalled, with_payloads
from thinwire.strategies.scattered import Scattered
from thinwire.strategies.sequence import Sequence
from thinwire.strategies.single import Single, with_positions
from thinwire.wire import collectives, ledger
from thinwire.wire.spmd import fetch, put, spmd

TOKEN_BYTES = 4
State = dict[str, Any]  # what a continuation carries from token to token: of each layer the cache, and what reads it


class Step(NamedTuple):
    """What one more token gives; a leading axis of devices where all of them decode."""

    token: Array  # the next one
    logits: Array
    state: State


class Decoding(abc.ABC):
    """One way to go on from an engine's prefill. What it compiles serves all prompts whose cache has the same shape."""

    keeps: ClassVar[Keep]

    def __init__(self, engine: Engine):
        self.engine, self.dims = engine, engine.dims
        self.step = jax.jit(self.function, donate_argnums=3)

    @abc.abstractmethod
    def begin(self, ids_T: Int[np.ndarray, " T"], room: int) -> tuple[Float[np.ndarray, " V"], State]:
        """Reads the prompt: the logits of its last token, and a state with room for so many more."""

    @property
    @abc.abstractmethod
    def weights(self) -> Any:
        """The first argument of ``function``."""

    @abc.abstractmethod
    def function(self, weights: Any, token: Array, position: Array, state: State, draw: Draw | None) -> Step:
        """One more token at its position, from the state before it; ``draw`` is what the next is chosen by."""

    @classmethod
    def check(cls, model: str, strategy: Strategy, dims: ModelDims) -> None:
        """Raises ThinwireError where the model writes no text, or the strategy does not leave what this needs."""
        del strategy
        if not (dims.language and dims.causal):
            raise ThinwireError(f"{model} reads a whole input at once and continues nothing; name a language model.")

    def traffic(self) -> Traffic:
        """Bytes and messages of each device, and rounds, for one new token, by formula."""
        return Traffic((0,), (0,), 0)

    def cache(self, state: State) -> Any:
        """The arrays of a state that are a cache: what ``planning.cache_memory`` counts."""
        return state

    def first(self, x: Any) -> Any:
        """What the first device holds of a token or of logits, which are the same on all."""
        return x

    def lower(self, state: State) -> tuple[jax.stages.Lowered, ledger.Ledger]:
        """The program of one greedy step, lowered afresh, and the ledger of what it sends."""
        fresh = jax.jit(lambda *arguments: self.function(*arguments))
        with ledger.recording() as record:
            lowered = fresh.lower(self.weights, np.int32(0), np.int32(0), state, None)
        return lowered, record

    def _local(self, strategy: Strategy, setting: Setting, params, token, position, cache, codecs=None, prompt=None):
        """One token through the model on one device: its logits (V,), and what the strategy emits."""
        model = self.engine.model
        family = FAMILIES[model.family]
        x_TD, emitted = family.forward(
            params, model.config, token[None], position[None], strategy, setting, codecs, cache, prompt
        )
        return family.unembed(params, x_TD)[0], emitted


class OnOne(Decoding):
    """The device that holds the last token goes on alone with what it has: own rows exact, the others' as decoded."""

    keeps = "seen"

    def begin(self, ids_T, room):
        """The mixed cache of that device."""
        logits_V, out = self.engine.prefill(ids_T, self.keeps)
        cache = self.engine.strategy.gather_cache(self.engine.setting(len(ids_T)), fetch(out["cache"]))
        return logits_V, jax.device_put(grown(cache, room))

    @property
    def weights(self):
        """All, on one device."""
        return self.engine.whole_params

    def function(self, weights, token, position, state, draw):
        """Nothing is sent."""
        setting = Setting(self.dims, Single().layout(self.dims, 1, 1, None))
        logits_V, emitted = self._local(Cached(), setting, weights, token, position, state)
        return Step(choose(logits_V, draw), logits_V, emitted["cache"])


class OnOneCoded(Decoding):
    """As ``OnOne``, but the others' rows stay the codes that came, and are decoded layer by layer for every token."""

    keeps = "codes"

    @classmethod
    def check(cls, model, strategy, dims):
        """Raises ThinwireError for strategies that send no context, too."""
        super().check(model, strategy, dims)
        if not isinstance(strategy, Sequence):
            raise ThinwireError(f"{strategy.spec()} sends no codes of tokens that could be kept; decode with 'one'.")

    def begin(self, ids_T, room):
        """The own rows of the device that holds the last token, and the payloads of the others."""
        setting = self.engine.setting(len(ids_T))
        logits_V, out = self.engine.prefill(ids_T, self.keeps)
        last, others = self._last_and_others(setting)
        out = jax.tree.map(lambda x: x[last], fetch(out))
        positions_C = np.concatenate([np.arange(setting.layout.shared), self._prompt.work(setting).positions_NW[last]])
        own = grown(with_positions(out["cache"], positions_C), room)
        payloads = jax.tree.map(lambda x: x[:, list(others)], out["payloads"])
        return logits_V, jax.device_put({"cache": with_payloads(own, payloads), "prompt": np.asarray(ids_T, np.int32)})

    @property
    def weights(self):
        """All, on one device, and the codec's."""
        return self.engine.whole_params, self._codecs

    @functools.cached_property
    def _codecs(self):
        return jax.tree.map(lambda x: jax.device_put(np.asarray(x.addressable_data(0))), self.engine.codecs)

    def function(self, weights, token, position, state, draw):
        """Nothing is sent; the prompt's length and layout are known when it is traced."""
        params, codecs = weights
        setting, cache, ids_T = self.engine.setting(len(state["prompt"])), state["cache"], state["prompt"]
        strategy = Recalled(self._prompt.codec, self._prompt, *self._last_and_others(setting))
        logits_V, emitted = self._local(strategy, setting, params, token, position, cache, codecs, ids_T)
        state = {"cache": {**cache, **emitted["cache"]}, "prompt": ids_T}
        return Step(choose(logits_V, draw), logits_V, state)

    def cache(self, state):
        """Without the prompt, which the embedding of a codec that predicts is looked up by."""
        return state["cache"]

    @property
    def _prompt(self) -> Sequence:
        assert isinstance(self.engine.strategy, Sequence)
        return self.engine.strategy

    @staticmethod
    def _last_and_others(setting: Setting) -> tuple[int, tuple[int, ...]]:
        last = int(setting.layout.places[0][-1])
        return last, tuple(n for n in range(setting.layout.devices) if n != last)


class OnAll(Decoding):
    """Every device attends to its own tokens' exact keys and values; partial softmaxes are merged for every token.

    All devices choose from logits that are equal as far as their arithmetic is, and take device 0's choice.
    """

    keeps = "own"
    codec: ClassVar[str] = "float32"  # the form of what is exchanged

    @classmethod
    def check(cls, model, strategy, dims):
        """Raises ThinwireError where no device has all heads of its tokens, too."""
        super().check(model, strategy, dims)
        if not strategy.splits_tokens:
            raise ThinwireError(
                f"{strategy.spec()} splits heads and not tokens, so no device has its own to attend to; "
                "decode with 'one'."
            )

    @property
    def _strategy(self) -> Scattered:
        return Scattered(FloatCodec(self.codec))

    def begin(self, ids_T, room):
        """On every device its own rows, and room for its share of the new ones."""
        setting, where = self.engine.setting(len(ids_T)), self.engine.where
        logits_V, out = self.engine.prefill(ids_T, self.keeps)
        positions_NC = self.engine.strategy.own_positions(setting)
        positions_NLC = np.repeat(positions_NC[:, None], self.dims.layers, axis=1)
        share = -(-room // self.engine.devices)
        grow = jax.jit(spmd(lambda cache: grown(cache, share, jnp), where, (True,)))
        return logits_V, grow({**out["cache"], "position": put(positions_NLC, where, True)})

    @property
    def weights(self):
        """All, on every device."""
        return self.engine.params

    def function(self, weights, token, position, state, draw):
        """One gather a layer, and one of the token."""

        def local(params, token, position, state, draw):
            logits_V, emitted = self._local(self._strategy, self._setting, params, token, position, state)
            token_N = collectives.all_gather({"token": choose(logits_V, draw)}, "token")["token"]
            return Step(token_N[0], logits_V, emitted["cache"])

        everywhere = (False, False, False, True, False)
        return spmd(local, self.engine.where, everywhere)(weights, token, position, state, draw)

    def traffic(self):
        """The partial softmaxes of all layers, and the token."""
        layer, layers, count = self._strategy.traffic(self._setting), self.dims.layers, self.engine.devices
        sent = layers * layer.bytes_by_device[0] + (count - 1) * TOKEN_BYTES
        messages = layers * layer.messages_by_device[0] + count - 1
        return Traffic((sent,) * count, (messages,) * count, (layers + 1) * int(count > 1))

    def first(self, x):
        """Without the axis of devices."""
        return x[0]

    @property
    def _setting(self) -> Setting:
        return Setting(self.dims, self._strategy.layout(self.dims, 1, self.engine.devices, None))


class OnAllHalf(OnAll):
    """As ``OnAll``, exchanging bfloat16: half the bytes, and no longer exact."""

    codec = "bfloat16"


# What a user can name. The only place where names of decodings stand.
DECODINGS: dict[str, type[Decoding]] = {
    "one": OnOne,
    "one:coded": OnOneCoded,
    "all": OnAll,
    "all:bfloat16": OnAllHalf,
}


def parse_decoding(name: str) -> type[Decoding]:
    """Returns the way of decoding that ``name`` names.

    Raises:
        ThinwireError: it names none.
    """
    if name not in DECODINGS:
        near = difflib.get_close_matches(name, DECODINGS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ThinwireError(f"There is no decoding {name!r}; {hint}There are: {', '.join(DECODINGS)}.")
    return DECODINGS[name]


def grown(cache: Mapping[str, Any], room: int, numbers: Any = np) -> dict[str, Any]:
    """A cache (L, C, ...) with ``room`` empty rows behind it, by numpy or by ``jax.numpy``."""
    empty = {"k": 0, "v": 0, "position": PAD}
    behind = lambda x, fill: numbers.full((x.shape[0], room, *x.shape[2:]), fill, x.dtype)
    return {name: numbers.concatenate([x, behind(x, empty[name])], axis=1) for name, x in cache.items()}
