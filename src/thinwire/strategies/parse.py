"""Strategy strings, ``STRATEGY[:CODEC][:OPTION=VALUE]...``: ``sequence:vq:groups=16:site=x``. Parsed only here."""

import dataclasses
import difflib
import functools
import inspect
import typing

from thinwire.codecs import CODECS, PRESETS, Codec
from thinwire.codecs.predictive import AfterPrediction, Predictive
from thinwire.errors import ThinwireError
from thinwire.strategies.base import Strategy
from thinwire.strategies.ring import Ring
from thinwire.strategies.sequence import Sequence
from thinwire.strategies.single import Single
from thinwire.strategies.tensor import Tensor

# What a user can name. A new strategy is one file and one line here.
STRATEGIES: dict[str, type[Strategy]] = {s.name: s for s in (Single, Sequence, Ring, Tensor)}  # type: ignore[type-abstract]

# What a preset means for the strategy: the paper codes the layer's input [ASTRA, section 3].
PRESET_OPTIONS: dict[str, dict[str, typing.Any]] = {"paper": {"site": "x"}}

_SPELLING = {"layout_name": "layout"}  # fields whose option is written differently
_GRAMMAR = "STRATEGY[:CODEC][:OPTION=VALUE]..., for example sequence:vq:groups=16"


def parse_strategy(text: str) -> Strategy:
    """Returns the strategy that ``text`` names.

    Raises:
        ThinwireError: it does not parse; the sentence says at which part, and what would fit there.
    """
    parts = text.strip().split(":")
    name = parts[0]
    if name not in STRATEGIES:
        raise _unknown(text, 0, f"there is no strategy {name!r}", name, list(STRATEGIES))
    kind = STRATEGIES[name]
    rest = parts[1:]
    codec_name, codec_at = None, 1
    if rest and "=" not in rest[0]:
        codec_name = rest[0]
        if kind is Single:
            raise _error(text, 1, "the single device sends nothing, so it takes no codec")
        if codec_name not in CODECS:
            raise _unknown(text, 1, f"there is no codec {codec_name!r}", codec_name, list(CODECS))
        rest, codec_at = rest[1:], 2
    make = CODECS[codec_name or "float32"]
    known_codec = _fields(make)
    known_strategy = {} if kind is Single else _fields(kind)
    codec_options, strategy_options = {}, {}
    for index, part in enumerate(rest, start=codec_at):
        option, equals, value = part.partition("=")
        if not equals or not option or not value:
            raise _error(text, index, f"{part!r} is not OPTION=VALUE")
        for known, options in ((known_codec, codec_options), (known_strategy, strategy_options)):
            if option in known:
                field, kind_of = known[option]
                if field in options:
                    raise _error(text, index, f"{option} is given twice")
                options[field] = _convert(text, index, option, value, kind_of)
                break
        else:
            raise _unknown(text, index, f"{':'.join(parts[:codec_at])} has no option {option!r}", option,
                           [*known_codec, *known_strategy])  # fmt: skip
    try:
        codec = make(**codec_options)
        implied = PRESET_OPTIONS.get(codec_name or "", {}) if "site" in known_strategy else {}
        strategy_options = {**implied, **strategy_options}
        return kind(**strategy_options) if kind is Single else kind(codec=codec, **strategy_options)  # type: ignore[call-arg]
    except ThinwireError as error:
        raise ThinwireError(f"Strategy {text!r}: {error}") from error


def parse_strategies(text: str) -> list[Strategy]:
    """Returns the strategies of a comma-separated list, in order.

    Raises:
        ThinwireError: the list is empty, or one of them does not parse.
    """
    names = [part for part in text.split(",") if part.strip()]
    if not names:
        raise ThinwireError(f"The list of strategies is empty; write some, separated by commas: {_GRAMMAR}.")
    return [parse_strategy(name) for name in names]


def parse_codec(text: str) -> Codec:
    """Returns the codec that ``text`` names, written as in a strategy: ``vq:groups=16``.

    Raises:
        ThinwireError: it does not parse.
    """
    return parse_strategy(f"sequence:{text}").codec


def preset_of(strategy: Strategy) -> str | None:
    """The preset that a strategy's codec is, at the site that the preset means; None if it is none."""
    for name, make in PRESETS.items():
        means = PRESET_OPTIONS.get(name, {})
        if make() == strategy.codec and all(
            getattr(strategy, option, None) == value for option, value in means.items()
        ):
            return name
    return None


def _fields(make) -> dict[str, tuple[str, type]]:
    """The options that ``make`` takes: how they are written, the field, and its type."""
    if isinstance(make, functools.partial) and isinstance(make.func, AfterPrediction):
        return _fields(make.func)
    if isinstance(make, AfterPrediction):
        own = {name: field for name, field in _fields(Predictive).items() if name != "quantiser"}
        return {**_fields(make.quantiser), **own}
    bound = len(make.args) if hasattr(make, "args") else 0
    target: typing.Any = make.func if hasattr(make, "func") else make
    hints = typing.get_type_hints(target)
    names = list(inspect.signature(target).parameters)[bound:]
    fields = {f.name for f in dataclasses.fields(target)}
    return {_SPELLING.get(name, name): (name, hints[name]) for name in names if name in fields and name != "codec"}


def _convert(text, index, option, value, kind):
    try:
        return kind(value)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise _error(text, index, f"{option} must be {wanted}, not {value!r}") from None


def _error(text, index, what) -> ThinwireError:
    return ThinwireError(f"Strategy {text!r}, part {index + 1}: {what}. Write {_GRAMMAR}.")


def _unknown(text, index, what, word, choices) -> ThinwireError:
    near = difflib.get_close_matches(word, choices, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = f"There are: {', '.join(choices)}" if choices else "It has none"
    return ThinwireError(f"Strategy {text!r}, part {index + 1}: {what}; {hint}{listed}.")
