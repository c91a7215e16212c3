"""Strategies as they are trained: gradients pass the codes, and what learning needs is handed out layer by layer."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from thinwire.codecs import Predictive
from thinwire.codecs.base import Codec, CodecParams, Known
from thinwire.strategies import Sequence, Single
from thinwire.wire import collectives

# Beside the sites of the codec's arrays: what noise is drawn from, by layer. ``key`` (L, 2) of the example, ``scale``
# (L,), ``mean`` (L, D), and ``root`` (L, D) or (L, D, D), a root of the covariance.
NOISE = "noise"
_stop = lax.stop_gradient


@dataclasses.dataclass(frozen=True)
class TrainingSingle(Single):
    """The single device; emits whether each layer's input is finite and, if wanted, what its attention gives."""

    attention: bool = False  # emit it
    remat: bool = False

    @property
    def recomputed_backwards(self) -> bool:
        """As asked for."""
        return self.remat

    def attend(self, scope, call):
        """As ``Single``."""
        return _watched(self, scope, call, super().attend(scope, call))


@dataclasses.dataclass(frozen=True)
class TrainingSequence(Sequence):
    """Sees what ``Sequence`` sees, by payloads of floats: x + sg(x̃ − x), so that gradients pass them unchanged.

    x̃ is the row as a receiver decodes it and, in training, the noise of NAVQ [papers.md 1.5]: a draw from the
    distribution of the residual x − x̂, times a scale. Every layer emits ``coded``:

    - ``quantised`` (R, Q): own rows as the quantiser sees them, for EMA codebooks;
    - ``residual`` (R, D), x − x̂, for the distribution of the noise;
    - ``valid`` (R,): 1 where a row holds a token;
    - ``commitment`` (): Σ ||x − sg(x̂)||² over tokens, which pulls rows towards their codes;
    - ``codebook`` (): Σ ||sg(x) − x̂||², which pulls the codec's arrays towards the rows.

    Attributes:
        by_gradient: the codec's arrays get gradients, of the rows that they decode to.
        noisy: add noise; its distribution is given as a site called NOISE.
        attention: emit what each layer's attention gives, of own rows.
        remat: compute layers again on the way back instead of keeping what is in them.
    """

    by_gradient: bool = False
    noisy: bool = False
    attention: bool = False
    remat: bool = False

    @property
    def recomputed_backwards(self) -> bool:
        """As asked for."""
        return self.remat

    def attends_at_once(self, setting):
        """Never: on the way back each device would keep what every branch has computed."""
        return False

    def attend(self, scope, call):
        """As ``Sequence``."""
        return _watched(self, scope, call, super().attend(scope, call))

    def encode(self, scope, call):
        """The own rows as others will see them, with the gradient of the exact ones."""
        if not self.codec.sends:
            return []
        if scope.first:  # recomputed everywhere; what is emitted has one shape in all layers
            like = jax.eval_shape(lambda: self._coded(scope, call)[1])
            scope.emitted["coded"] = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
            return []
        rows_RD, scope.emitted["coded"] = self._coded(scope, call)
        return [{"rows": rows_RD}]

    def if_heard(self, scope, function):
        """Always: averages are taken of all rows."""
        return function()

    def foreseen(self, scope, device):
        """Nothing: gradients go through the prediction, where it is made."""
        del device
        return scope

    def decode(self, scope, call, payloads, other):
        """The rows that the payload holds."""
        return payloads[0]["rows"] if payloads else super().decode(scope, call, payloads, other)

    def _coded(self, scope, call) -> tuple[Float[Array, "R D"], dict[str, Array]]:
        layout, site, me = scope.setting.layout, self.coded_site(scope), collectives.device_index()
        params = scope.codecs.get(site, {})
        exact_RD = self.work(scope.setting).own(call.sites[site])[layout.shared :].astype(jnp.float32)
        pieces = []
        for start, stop in self.cuts(layout):
            known = _stop(self._known(scope, me, start, stop))
            pieces.append(there_and_back(self.codec, params, _stop(exact_RD[start:stop]), known))
        seen_RD, quantised_RQ = (jnp.concatenate(parts) for parts in zip(*pieces, strict=True))
        valid_R = jnp.asarray(layout.valid_NR, jnp.float32)[me]
        squares = lambda rows_RD: jnp.sum(valid_R * jnp.sum(rows_RD**2, axis=1))
        coded = {
            "quantised": _stop(quantised_RQ),
            "residual": _stop(exact_RD - seen_RD),
            "valid": valid_R,
            "commitment": squares(exact_RD - _stop(seen_RD)),
            "codebook": squares(_stop(exact_RD) - seen_RD),
        }
        given_RD = seen_RD if self.by_gradient else _stop(seen_RD)
        if self.noisy:
            given_RD = given_RD + _stop(_noise(scope.codecs[NOISE], me, exact_RD.shape))
        return given_RD + (exact_RD - _stop(exact_RD)), coded


def trained(strategy: Sequence | Single, **options: Any) -> TrainingSequence | TrainingSingle:
    """The strategy as it is trained."""
    if isinstance(strategy, Single):
        return TrainingSingle(attention=options.get("attention", False), remat=options.get("remat", False))
    fields = {field.name: getattr(strategy, field.name) for field in dataclasses.fields(Sequence)}
    return TrainingSequence(**fields, **options)


def there_and_back(
    codec: Codec, params: CodecParams, x_TD: Float[Array, "T D"], known: Known | None
) -> tuple[Float[Array, "T D"], Float[Array, "T Q"]]:
    """Rows as a receiver decodes them, differentiable in ``params``, and as the quantiser sees them."""
    payload = codec.encode(_stop(dict(params)), x_TD, known)
    seen_TD = codec.decode(params, payload, x_TD.shape[0], x_TD.shape[1], known)
    if isinstance(codec, Predictive):
        x_TD = (x_TD - codec.predict(params, known)) @ params["analysis"]
    return seen_TD, x_TD


def _noise(noise: Mapping[str, Array], device, shape) -> Float[Array, "R D"]:
    """λ·ξ with ξ ~ N(mean, root rootᵀ), another draw for every device, layer and example."""
    key = jax.random.fold_in(jax.random.wrap_key_data(noise["key"]), device)
    draw_RD, root = jax.random.normal(key, shape), noise["root"]
    spread_RD = draw_RD * root[None] if root.ndim == 1 else draw_RD @ root.T
    return noise["scale"] * (noise["mean"][None] + spread_RD)


def _watched(strategy, scope, call, out_THd):
    scope.emitted["finite"] = jnp.isfinite(call.sites["x"]).all()
    if strategy.attention:
        own = lambda x: strategy.work(scope.setting).own(x) if isinstance(strategy, Sequence) else x
        scope.emitted["attention"] = own(out_THd).reshape(-1, out_THd.shape[1] * out_THd.shape[2])
    return out_THd
