"""A model, a strategy and a place to run: the compiled programs, and what they send."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from thinwire.codecs.base import SHARED
from thinwire.compiling import compiler_options
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import Kernels, chosen, parse_kernels, using
from thinwire.layout import TokenLayout
from thinwire.models.families import FAMILIES
from thinwire.models.stack import unstack
from thinwire.strategies.balance import Split, shares_of
from thinwire.strategies.base import Keep, Setting, Strategy, Traffic
from thinwire.weights.load import LoadedModel
from thinwire.wire import ledger
from thinwire.wire.silence import silence
from thinwire.wire.spmd import fetch, put, spmd
from thinwire.wire.streams import between, pass_identity, streaming

if TYPE_CHECKING:
    from thinwire.sampling import Sampling

Codecs = Mapping[str, Mapping[str, Any]]
Inputs = Int[np.ndarray, " T"] | Float[np.ndarray, "T P"]  # one row a token: its id, or the values of a patch


class Engine:
    """Runs one model by one strategy.

    Args:
        model: from ``load_model``.
        strategy: from ``parse_strategy``.
        where: a number of virtual devices on the default device, or a mesh of real ones.
        codecs: the codec's learnt arrays by site, (L, ...), for codecs that learn.
        split: each device's share of the tokens, or ``Balanced``; even if None.
        dtype: of weights and activations: ``float32`` or ``bfloat16``.
        sharing: engines of the same model, whose weights in place are used where this one would hold the same.
        kernels: what programs are traced with (``thinwire.kernels.choice``); None: what is chosen now.
        unrolled: every layer has its own arrays and its own piece of program, so that no weights are copied out of
            a stack: about a tenth faster on a CPU, and several times slower to compile.

    Raises:
        ThinwireError: the codec does not fit the model, or its codebooks are missing.
    """

    def __init__(
        self,
        model: LoadedModel,
        strategy: Strategy,
        where: Mesh | int = 1,
        codecs: Codecs | None = None,
        split: Split = None,
        dtype: str = "float32",
        sharing: Sequence["Engine"] = (),
        unrolled: bool = False,
        kernels: Kernels | None = None,
    ):
        self.unrolled = unrolled
        self.kernels: Kernels = chosen() if kernels is None else parse_kernels(kernels)
        self.model, self.strategy, self.where, self.split, self.dtype = model, strategy, where, split, dtype
        self.devices = where if isinstance(where, int) else where.devices.size
        self._streams = None if isinstance(where, int) else between(self.devices)
        self._family = FAMILIES[model.family]
        self.dims: ModelDims = self._family.dims(model.config)
        if self.devices < 1:
            raise ThinwireError(f"{self.devices} devices cannot run anything; ask for at least 1.")
        strategy.check(self.dims)
        strategy.layout(self.dims, self.dims.context, self.devices, self.shares(self.dims.context))  # says what cannot
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
            params = cast(params, dtype)
            if unrolled:
                params = {**params, "layers": _unstack(params["layers"], self._sharded["layers"])}
            self._params = put(params, where, self._sharded)
        learnt = {
            name: tree if name == SHARED or not unrolled else unstack(tree) for name, tree in self._codecs.items()
        }
        self._codecs = put(_cast_codecs(learnt, strategy.codec.factors, dtype), where, False)
        self._programs: dict[Any, Any] = {}

    def _holds_what(self, other: "Engine") -> bool:
        """Whether the other engine's weights lie on its devices as this one's would."""
        same_way = type(self.strategy).shard is type(other.strategy).shard
        place = lambda engine: (engine.model, engine.where, engine.dtype, engine.unrolled)
        same_place = place(self) == place(other)
        return same_way and same_place

    @property
    def exchange(self) -> str:
        """How payloads are gathered: by XLA's collectives, or by the ``streams`` between hosts."""
        return "streams" if self._streams is not None else "xla"

    def layout(self, tokens: int) -> TokenLayout:
        """Which device holds which of ``tokens`` tokens."""
        if tokens > self.dims.context:
            raise ThinwireError(
                f"The prompt has {tokens} tokens and {self.model.name} reads at most {self.dims.context}; shorten it."
            )
        return self.strategy.layout(self.dims, tokens, self.devices, self.shares(tokens))

    def shares(self, tokens: int) -> tuple[float, ...] | None:
        """Each device's share of so many tokens; None if all are equal."""
        return shares_of(self.split, self.strategy, self.dims, tokens, self.devices)

    def prepare(self, tokens: int, logits: str = "all", keep_cache: Keep = "") -> None:
        """Compiles now what ``logits`` (or with ``last`` and a cache ``prefill``) will run on so many tokens."""
        key = (tokens, logits, keep_cache)
        if key not in self._programs:
            spec = self._family.inputs_spec(self.model.config, tokens)
            inputs_T = put(np.zeros(spec.shape, spec.dtype), self.where, False)
            lowered = self._build(*key).lower(self._params, self._codecs, inputs_T)
            self._programs[key] = lowered.compile()

    def logits(self, ids_T: Inputs) -> Float[np.ndarray, "T V"]:
        """Logits of every position, or the features of a model that gives those; float32, on the host."""
        out = self._run(ids_T, "all")
        return self.strategy.join(self.setting(len(ids_T)), fetch(out["logits"]))

    def dispatch(self, inputs_T: Any) -> Any:
        """Starts a pass that makes the logits of the last position; its outputs where they are, nothing is fetched.

        Args:
            inputs_T: as ``put`` placed them, and of as many tokens as ``prepare(tokens, "last")`` was told.
        """
        return self._programs[len(inputs_T), "last", ""](self._params, self._codecs, inputs_T)

    def program_text(self, tokens: int) -> str:
        """The compiled program that ``dispatch`` runs on so many tokens, as XLA writes it."""
        return self._programs[tokens, "last", ""].as_text()

    def time_to_first_token(self, ids_T: Inputs) -> Float[np.ndarray, " V"]:
        """Logits of the last position only, as a prefill makes them."""
        return self._last(ids_T, self._run(ids_T, "last"))

    def prefill(self, ids_T: Int[np.ndarray, " T"], keep_cache: Keep) -> tuple[Float[np.ndarray, " V"], dict[str, Any]]:
        """Logits of the last position, on the host, and what a continuation needs of each device, where it is."""
        out = self._run(ids_T, "last", keep_cache)
        return self._last(ids_T, out), {name: value for name, value in out.items() if name != "logits"}

    def generate(
        self, ids_T: Int[np.ndarray, " T"], max_tokens: int, sampling: "Sampling | None" = None, decode: str = "one"
    ) -> Iterator[int]:
        """Reads the prompt by the strategy and goes on token by token: ``thinwire.generation.generate``."""
        from thinwire.generation import generate

        return generate(self, ids_T, max_tokens, sampling, decode)

    def traffic(self, tokens: int) -> Traffic:
        """Bytes and messages of each device, and rounds, in a whole pass, by formula."""
        return self.strategy.traffic(self.setting(tokens)).times(self.strategy.coded_layers(self.dims))

    def flops(self, tokens: int) -> tuple[float, ...]:
        """FLOPs of each device in a prefill of ``tokens`` tokens (the head, if there is one, for one token)."""
        head = 2.0 * self.dims.width * self.dims.vocab if self.dims.language else 0.0
        return tuple(self.dims.layers * f + head for f in self.strategy.flops(self.setting(tokens)))

    def lower(self, tokens: int, logits: str = "last") -> tuple[jax.stages.Lowered, ledger.Ledger]:
        """The program of a pass over ``tokens`` tokens, lowered afresh, and the ledger of what it sends."""
        function = self._build(tokens, logits)
        with ledger.recording() as record:
            inputs = self._family.inputs_spec(self.model.config, tokens)
            lowered = function.lower(self._params, self._codecs, inputs)
        return lowered, record

    def setting(self, tokens: int, keep_cache: Keep = "") -> Setting:
        """What is fixed in a program over so many tokens."""
        return Setting(self.dims, self.layout(tokens), keep_cache, self._streams is not None)

    def _run(self, ids_T, logits: str, keep_cache: Keep = ""):
        ids_T = self._family.check_inputs(self.model.config, ids_T)
        key = (len(ids_T), logits, keep_cache)
        if key not in self._programs:
            self._programs[key] = self._build(*key)
        return self._programs[key](self._params, self._codecs, put(ids_T, self.where, False))

    def alone(self, tokens: int, device: int) -> tuple[jax.stages.Compiled, tuple[Any, ...]]:
        """Device ``device``'s part of a pass that makes the last position's logits, compiled without what it sends.

        Returns:
            The program (``thinwire.wire.silence``), which needs none of the other devices, and what it is called with
            before the inputs. Its output is of no use; what it takes is that device's local work.
        """
        own = lambda tree, sharded: jax.tree.map(lambda x: x[device], tree) if sharded else tree
        params = jax.tree.map(lambda one, x: own(x, one), self._sharded, self._params)
        local = self._local(tokens, "last")

        def of_one(*arguments):
            with silence((device, self.devices)):
                return local(*arguments)

        arguments = (params, self._codecs)
        spec = self._family.inputs_spec(self.model.config, tokens)
        program = jax.jit(of_one, compiler_options=compiler_options(self.where))
        return program.lower(*arguments, spec).compile(), arguments

    def _build(self, tokens: int, logits: str, keep_cache: Keep = ""):
        local = self._local(tokens, logits, keep_cache)
        function = spmd(local, self.where, (self._sharded, False, False))
        return jax.jit(function, compiler_options=compiler_options(self.where))

    def _local(self, tokens: int, logits: str, keep_cache: Keep = ""):
        """The function of what one device holds."""
        setting = self.setting(tokens, keep_cache)
        last_row = int(setting.layout.places[1][-1])

        def local(params, codecs, ids_T):
            identity = self._identity(setting, logits, ids_T) if self._streams else 0
            with using(self.kernels), streaming(self._streams, identity):  # whenever it is traced
                position_R = self.strategy.positions(setting)
                row_ids = ids_T[jnp.minimum(position_R, tokens - 1)]
                x_RD, emitted = self._family.forward(
                    params, self.model.config, row_ids, position_R, self.strategy, setting, codecs, prompt=ids_T
                )
            rows = x_RD if logits == "all" else x_RD[last_row : last_row + 1]
            with jax.named_scope("head"):
                return {"logits": self._family.unembed(params, rows), **emitted}

        return local

    def _identity(self, setting: Setting, logits: str, ids_T):
        places = [place.tolist() for place in setting.layout.places]
        facts = (self.model.name, self.strategy.spec(), self.dtype, logits, setting.keep_cache, places)
        return pass_identity(repr(facts), ids_T)

    def _last(self, ids_T, out):
        device = int(self.layout(len(ids_T)).places[0][-1])
        return fetch(out["logits"])[device, 0]

    @property
    def params(self) -> Any:
        """The weights in place: of each device its part, or on every device all of them."""
        return self._params

    @functools.cached_property
    def whole_params(self) -> Any:
        """All weights on this process's default device."""
        if isinstance(self.where, int) and not any(jax.tree.leaves(self._sharded)):
            return self._params
        return jax.device_put(cast(self.model.params, self.dtype))

    @property
    def codecs(self) -> Codecs:
        """The codec's learnt arrays in place, on every device the same."""
        return self._codecs

    @functools.cached_property
    def decodings(self) -> dict[str, Any]:
        """How this engine's prefills are gone on from, with what is compiled for it; kept by ``generation``."""
        return {}


def _unstack(layers: Any, sharded: Any) -> Any:
    """Behind the axis of devices where there is one."""
    return jax.tree.map(lambda one, x: unstack(x, int(one)), sharded, layers)


def _cast_codecs(codecs: Codecs, factors: frozenset[str], dtype: str) -> Codecs:
    """Factors of each layer in the type of the model, all else in float32."""
    of = lambda name: dtype if name in factors else "float32"
    return {site: {name: cast(x, of(name)) for name, x in tree.items()} for site, tree in codecs.items()}


def cast(tree: Any, dtype: str) -> Any:
    """The arrays of a tree in another type, on the host; those that have it already are left where they are."""
    return jax.tree.map(lambda x: x if x.dtype == dtype else np.asarray(x).astype(dtype), tree)
