"""A model, a strategy and a place to run: the compiled programs, what they send, and generation from them."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.layout import PAD, TokenLayout
from thinwire.models.families import FAMILIES
from thinwire.strategies.base import Setting, Strategy, Traffic
from thinwire.strategies.cached import Cached
from thinwire.strategies.single import Single
from thinwire.weights.load import LoadedModel
from thinwire.wire import ledger
from thinwire.wire.spmd import fetch, put, spmd

Codecs = Mapping[str, Mapping[str, Any]]
Inputs = Int[np.ndarray, " T"] | Float[np.ndarray, "T P"]  # one row a token: its id, or the values of a patch


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest at temperature 0, else drawn."""

    temperature: float = 0.0
    seed: int = 0


class Engine:
    """Runs one model by one strategy.

    Args:
        model: from ``load_model``.
        strategy: from ``parse_strategy``.
        where: a number of virtual devices on the default device, or a mesh of real ones.
        codecs: the codec's learnt arrays by site, (L, ...), for codecs that learn.
        split: each device's share of the tokens; even if None.
        dtype: of weights and activations: ``float32`` or ``bfloat16``.
        sharing: engines of the same model, whose weights in place are used where this one would hold the same.

    Raises:
        ThinwireError: the codec does not fit the model, or its codebooks are missing.
    """

    def __init__(
        self,
        model: LoadedModel,
        strategy: Strategy,
        where: Mesh | int = 1,
        codecs: Codecs | None = None,
        split: tuple[float, ...] | None = None,
        dtype: str = "float32",
        sharing: Sequence["Engine"] = (),
    ):
        self.model, self.strategy, self.where, self.split, self.dtype = model, strategy, where, split, dtype
        self.devices = where if isinstance(where, int) else where.devices.size
        self._family = FAMILIES[model.family]
        self.dims: ModelDims = self._family.dims(model.config)
        if self.devices < 1:
            raise ThinwireError(f"{self.devices} devices cannot run anything; ask for at least 1.")
        strategy.check(self.dims)
        strategy.layout(self.dims, self.dims.context, self.devices, split)  # says what cannot be split
        self._codecs = dict(codecs or {})
        missing = [s for s in strategy.sites(self.dims) if strategy.codec.learns and s not in self._codecs]
        if missing:
            raise ThinwireError(
                f"{strategy.spec()} needs codebooks for {', '.join(missing)}; make them with "
                f"'thinwire calibrate --model {model.name} --strategy {strategy.spec()} --devices {self.devices}'."
            )
        self._params, self._sharded = next(
            ((one._params, one._sharded) for one in sharing if self._holds_what(one)), (None, None)
        )
        if self._params is None:
            axes = self._family.param_axes(model.config)
            params, self._sharded = strategy.shard(model.params, axes, self.dims, self.devices)
            self._params = put(cast(params, dtype), where, self._sharded)
        self._codecs = put(cast(self._codecs, "float32"), where, jax.tree.map(lambda _: False, self._codecs))
        self._programs: dict[Any, Any] = {}

    def _holds_what(self, other: "Engine") -> bool:
        """Whether the other engine's weights lie on its devices as this one's would."""
        same_way = type(self.strategy).shard is type(other.strategy).shard
        same_place = (self.model, self.where, self.dtype) == (other.model, other.where, other.dtype)
        return same_way and same_place

    def layout(self, tokens: int) -> TokenLayout:
        """Which device holds which of ``tokens`` tokens."""
        if tokens > self.dims.context:
            raise ThinwireError(
                f"The prompt has {tokens} tokens and {self.model.name} reads at most {self.dims.context}; shorten it."
            )
        return self.strategy.layout(self.dims, tokens, self.devices, self.split)

    def prepare(self, tokens: int, logits: str = "all", keep_cache: bool = False) -> None:
        """Compiles now what ``logits`` (or with ``last`` and a cache ``generate``) will run on so many tokens."""
        key = (tokens, logits, keep_cache)
        if key not in self._programs:
            spec = self._family.inputs_spec(self.model.config, tokens)
            inputs_T = put(np.zeros(spec.shape, spec.dtype), self.where, False)
            self._programs[key] = self._build(*key).lower(self._params, self._codecs, inputs_T).compile()

    def logits(self, ids_T: Inputs) -> Float[np.ndarray, "T V"]:
        """Logits of every position, or the features of a model that gives those; float32, on the host."""
        out = self._run(ids_T, "all", keep_cache=False)
        return self.strategy.join(self._setting(len(ids_T)), fetch(out["logits"]))

    def time_to_first_token(self, ids_T: Inputs) -> Float[np.ndarray, " V"]:
        """Logits of the last position only, as a prefill makes them."""
        return self._last(ids_T, self._run(ids_T, "last", keep_cache=False))

    def generate(
        self, ids_T: Int[np.ndarray, " T"], max_tokens: int, sampling: Sampling | None = None
    ) -> Iterator[int]:
        """Reads the prompt by the strategy, then goes on token by token on one device.

        That device decodes with what it has after the prefill: its own tokens exact, the others' as decoded. Stops
        after ``max_tokens`` or, without yielding it, at an end token.
        """
        sampling = sampling or Sampling()
        check_length(self.model, len(ids_T), max_tokens)
        out = self._run(ids_T, "last", keep_cache=True)
        cache = self.strategy.gather_cache(self._setting(len(ids_T)), fetch(out["cache"]))
        cache = jax.device_put(_grown(cache, max_tokens))
        key = jax.random.key(sampling.seed)
        ends = set(self.model.tokenizer.eos_ids) if self.model.tokenizer else set()
        logits_V = self._last(ids_T, out)
        for step in range(max_tokens):
            token = int(_choose(logits_V, jax.random.fold_in(key, step), sampling.temperature))
            if token in ends:
                return
            yield token
            if step + 1 < max_tokens:
                position = np.array([len(ids_T) + step], np.int32)
                new, cache = self._decode(self._whole_params, np.array([token], np.int32), position, cache)
                logits_V = np.asarray(new)

    def traffic(self, tokens: int) -> Traffic:
        """Bytes and messages of each device, and rounds, in a whole pass, by formula."""
        layer = self.strategy.traffic(self._setting(tokens))
        layers = self.strategy.coded_layers(self.dims)
        times = lambda row: tuple(layers * x for x in row)
        return Traffic(times(layer.bytes_by_device), times(layer.messages_by_device), layers * layer.rounds)

    def flops(self, tokens: int) -> tuple[float, ...]:
        """FLOPs of each device in a prefill of ``tokens`` tokens (the head, if there is one, for one token)."""
        head = 2.0 * self.dims.width * self.dims.vocab if self.dims.language else 0.0
        return tuple(self.dims.layers * f + head for f in self.strategy.flops(self._setting(tokens)))

    def lower(self, tokens: int, logits: str = "last") -> tuple[jax.stages.Lowered, ledger.Ledger]:
        """The program of a pass over ``tokens`` tokens, lowered afresh, and the ledger of what it sends."""
        function = self._build(tokens, logits, keep_cache=False)
        with ledger.recording() as record:
            inputs = self._family.inputs_spec(self.model.config, tokens)
            lowered = function.lower(self._params, self._codecs, inputs)
        return lowered, record

    def _setting(self, tokens: int, keep_cache: bool = False) -> Setting:
        return Setting(self.dims, self.layout(tokens), keep_cache)

    def _run(self, ids_T, logits: str, keep_cache: bool):
        ids_T = self._family.check_inputs(self.model.config, ids_T)
        key = (len(ids_T), logits, keep_cache)
        if key not in self._programs:
            self._programs[key] = self._build(*key)
        return self._programs[key](self._params, self._codecs, put(ids_T, self.where, False))

    def _build(self, tokens: int, logits: str, keep_cache: bool):
        setting = self._setting(tokens, keep_cache)
        last_row = int(setting.layout.places[1][-1])

        def local(params, codecs, ids_T):
            position_R = self.strategy.positions(setting)
            row_ids = ids_T[jnp.minimum(position_R, tokens - 1)]
            x_RD, emitted = self._family.forward(
                params, self.model.config, row_ids, position_R, self.strategy, setting, codecs, prompt=ids_T
            )
            rows = x_RD if logits == "all" else x_RD[last_row : last_row + 1]
            return {"logits": self._family.unembed(params, rows), **emitted}

        return jax.jit(spmd(local, self.where, (self._sharded, False, False)))

    def _last(self, ids_T, out):
        device = int(self.layout(len(ids_T)).places[0][-1])
        return fetch(out["logits"])[device, 0]

    @functools.cached_property
    def _whole_params(self):
        if isinstance(self.where, int) and not any(jax.tree.leaves(self._sharded)):
            return self._params
        return jax.device_put(cast(self.model.params, self.dtype))

    @functools.cached_property
    def _decode(self):
        single = Single()
        setting = Setting(self.dims, single.layout(self.dims, 1, 1, None))

        def step(params, ids_T, position_T, cache):
            x_TD, emitted = self._family.forward(
                params, self.model.config, ids_T, position_T, Cached(), setting, None, cache
            )
            return self._family.unembed(params, x_TD)[0], emitted["cache"]

        return jax.jit(step, donate_argnums=3)


def check_length(model: LoadedModel, prompt: int, new: int) -> None:
    """Raises ThinwireError where a prompt of so many tokens cannot be continued by so many."""
    dims = FAMILIES[model.family].dims(model.config)
    if not (dims.causal and dims.language):
        raise ThinwireError(f"{model.name} reads a whole input at once and continues nothing; name a language model.")
    context = dims.context
    if new < 1:
        raise ThinwireError(f"max-tokens is {new}; ask for at least 1.")
    if prompt < 1:
        raise ThinwireError("The prompt is empty; give at least one token.")
    if prompt + new > context:
        raise ThinwireError(
            f"{prompt} prompt tokens and {new} new ones are more than the {context} that {model.name} reads; "
            "shorten one of them."
        )


def cast(tree: Any, dtype: str) -> Any:
    """The arrays of a tree in another type, on the host; those that have it already are left where they are."""
    return jax.tree.map(lambda x: x if x.dtype == dtype else np.asarray(x).astype(dtype), tree)


def _grown(cache, room):
    """The cache with ``room`` empty rows behind it."""
    empty = {"k": 0, "v": 0, "position": PAD}
    pad = lambda x, fill: np.concatenate([x, np.full((x.shape[0], room, *x.shape[2:]), fill, x.dtype)], axis=1)
    return {name: pad(np.asarray(values), empty[name]) for name, values in cache.items()}


def _choose(logits_V, key, temperature):
    if temperature == 0:
        return np.argmax(logits_V)
    return jax.random.categorical(key, jnp.asarray(logits_V) / temperature)
