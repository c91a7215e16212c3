"""Codes that get lost on the way, token by token, and what a receiver makes of the gap.

A code is lost by one receiver in one layer, whatever happens to others or in other layers, with the same probability
for all; nobody sends anything again, and the sender never hears of it. So the loss is not of attention alone: a
receiver that predicts layers from those below goes on from what it has, which is no longer what the sender thinks.
``loop=mended`` is the kinder story for comparison: the code comes too late for the attention of its layer and in time
for the prediction of the next.
"""

import dataclasses
from collections.abc import Sequence as Many
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from thinwire.attention.call import AttentionCall
from thinwire.codecs import Predictive
from thinwire.dims import ModelDims
from thinwire.errors import ThinwireError
from thinwire.strategies import Sequence, Strategy
from thinwire.strategies.base import LayerScope
from thinwire.wire import collectives

REPAIRS = ("mask", "mean", "predict")
LOOPS = ("broken", "mended")


@dataclasses.dataclass
class _Layer(LayerScope):
    """A layer that knows its number, by which it draws what gets lost."""

    number: Any = None


@dataclasses.dataclass(frozen=True)
class LossySequence(Sequence):
    """As ``Sequence``, but some of the other devices' codes do not arrive.

    Options beyond those of ``Sequence``:
        rate: the probability that a token's code is lost by a receiver in a layer.
        repair: what a receiver does about it: ``mask`` leaves the token out of its softmax, ``mean`` puts the mean of
            what did arrive of that device in that layer in its place, ``predict`` what it predicts without the code
            (for codecs that predict).
        loop: for codecs that predict: ``broken`` goes on from what was put in place (with ``mask`` that is the
            prediction, too), ``mended`` from the code.
        draw: seed of what is lost.
    """

    rate: float = 0.0
    repair: str = "mask"
    loop: str = "broken"
    draw: int = 0
    name = "lossy"

    def __post_init__(self):
        """Checks the options."""
        super().__post_init__()
        if not 0 <= self.rate <= 1:
            raise ThinwireError(f"rate={self.rate:g} is no probability; use 0 to 1.")
        for option, value, choices in (("repair", self.repair, REPAIRS), ("loop", self.loop, LOOPS)):
            if value not in choices:
                raise ThinwireError(f"{option}={value} is unknown; use one of {', '.join(choices)}.")

    def check(self, dims: ModelDims) -> None:
        """Raises ThinwireError where codes of single tokens cannot be lost, or not be repaired so."""
        super().check(dims)
        codec = self.codec.spec()
        if not self.codec.sends:
            raise ThinwireError(f"{codec} sends nothing, so nothing gets lost; use sequence.")
        if self.codec.mixes_rows:
            raise ThinwireError(f"{codec} has one code for several tokens, and here tokens get lost one by one.")
        if self.repair == "predict" and not self.codec.predicts:
            raise ThinwireError(f"{codec} predicts nothing to put in place of a lost code; use repair=mask or mean.")
        if self.repair == "mean" and self.codec.predicts:
            raise ThinwireError(f"{codec} knows better than the mean of other tokens; use repair=predict or mask.")
        if self.loop == "mended" and not self.codec.predicts:
            raise ThinwireError(f"{codec} predicts nothing, so it has no loop to mend; leave loop out.")

    def start(self, setting, inputs, shared):
        """The number of the layer is carried along."""
        return jnp.zeros((), jnp.int32), super().start(setting, inputs, shared)

    def attend(self, scope: LayerScope, call: AttentionCall):
        """As ``Sequence``, in a layer that knows its number."""
        number, carried = scope.carried
        given = {field.name: getattr(scope, field.name) for field in dataclasses.fields(LayerScope)}
        inner = _Layer(**{**given, "carried": carried}, number=number)
        out_THd = super().attend(inner, call)
        scope.carried = (number + 1, inner.carried)
        return out_THd

    def lost(self, scope: LayerScope, other: Int[Array, ""]) -> Bool[Array, " R"]:
        """Which of device ``other``'s rows this device gets no code of."""
        me = collectives.device_index()
        key = jax.random.key(self.draw)
        for number in (scope.number, me, other):  # type: ignore[attr-defined]
            key = jax.random.fold_in(key, number)
        return jax.random.bernoulli(key, self.rate, (scope.setting.layout.rows,)) & (other != me)

    def here(self, scope: LayerScope, other) -> Bool[Array, " R"] | None:
        """Without the lost rows, unless something is put in their place."""
        if not self._loses(scope) or self.repair == "predict":
            return None
        arrived_R = ~self.lost(scope, other)
        if self.repair == "mask":
            return arrived_R
        some = (arrived_R & jnp.asarray(scope.setting.layout.valid_NR)[other]).any()  # else there is no mean
        return jnp.broadcast_to(some, arrived_R.shape)

    def decode(self, scope: LayerScope, call: AttentionCall, payloads, other):
        """The rows that arrived, and what is put in the place of the others."""
        seen_RD = super().decode(scope, call, payloads, other)
        if not self._loses(scope):
            return seen_RD
        lost_R = self.lost(scope, other)
        return jnp.where(lost_R[:, None], self._instead(scope, seen_RD, lost_R, other), seen_RD)

    def kept(self, scope: LayerScope, payloads, seen_RD) -> dict[str, Any]:
        """The payloads too, where the loop is mended with them."""
        late = {"late": payloads} if self._mends(scope) else {}
        return super().kept(scope, payloads, seen_RD) | late

    def hand_on(self, scope: LayerScope, call: AttentionCall, kept_N) -> None:
        """The next layer is predicted from the rows as seen, or as they would have been seen."""
        if self._mends(scope):
            arrived = lambda payloads, n: Sequence.decode(self, scope, call, payloads, n)
            devices = jnp.arange(scope.setting.layout.devices)
            kept_N = {**kept_N, "seen": jax.vmap(arrived)(kept_N["late"], devices)}
        super().hand_on(scope, call, kept_N)

    def _loses(self, scope: LayerScope) -> bool:
        """Whether this layer's codes get lost; a layer that everybody recomputes has none."""
        return self.rate > 0 and not scope.first

    def _mends(self, scope: LayerScope) -> bool:
        return self.loop == "mended" and self._loses(scope)

    def _instead(self, scope: LayerScope, seen_RD, lost_R, other) -> Float[Array, "R D"]:
        """What stands in the place of lost rows; rows that are masked and predict nothing are looked at by nobody."""
        layout = scope.setting.layout
        if isinstance(self.codec, Predictive):
            params = scope.codecs.get(self.coded_site(scope), {})
            return self.codec.predict(params, self._known(scope, other, 0, layout.rows))
        arrived_R = jnp.asarray(layout.valid_NR)[other] & ~lost_R
        weight_R = arrived_R.astype(jnp.float32) / jnp.maximum(arrived_R.sum(), 1).astype(jnp.float32)
        return jnp.broadcast_to((weight_R[:, None] * seen_RD).sum(axis=0), seen_RD.shape)


def lossy(strategy: Strategy, **options: Any) -> LossySequence:
    """A strategy with losses; ``options`` are ``rate``, ``repair``, ``loop`` and ``draw``.

    Raises:
        ThinwireError: it is no sequence strategy, whose codes could get lost token by token.
    """
    if type(strategy) is not Sequence:
        raise ThinwireError(f"{strategy.spec()} has no codes of single tokens to lose; use sequence with any codec.")
    return LossySequence(**{f.name: getattr(strategy, f.name) for f in dataclasses.fields(Sequence)}, **options)


def repairs(strategy: Strategy) -> list[dict[str, str]]:
    """Every way in which losses of this strategy can be repaired, as options of ``lossy``."""
    if strategy.codec.predicts:
        broken, mended = ({"loop": loop} for loop in LOOPS)
        return [{"repair": repair, **loop} for loop in (broken, mended) for repair in ("predict", "mask")]
    return [{"repair": "mask"}, {"repair": "mean"}]


def variants(strategy: Strategy, rates: Many[float], draws: Many[int]) -> list[LossySequence]:
    """A strategy without losses once, and with each rate, repair and draw."""
    made = [
        lossy(strategy, rate=rate, draw=draw, **options)
        for options in repairs(strategy)
        for rate in rates
        if rate > 0
        for draw in draws
    ]
    return [lossy(strategy), *made] if 0 in rates else made
