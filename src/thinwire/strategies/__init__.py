"""Who owns which tokens and weights, and what is sent: one file a strategy."""

from thinwire.strategies.base import Setting, Strategy
from thinwire.strategies.parse import STRATEGIES, parse_codec, parse_strategies, parse_strategy
from thinwire.strategies.ring import Ring
from thinwire.strategies.sequence import Sequence
from thinwire.strategies.single import Single
from thinwire.strategies.tensor import Tensor

__all__ = [
    "STRATEGIES",
    "Ring",
    "Sequence",
    "Setting",
    "Single",
    "Strategy",
    "Tensor",
    "parse_codec",
    "parse_strategies",
    "parse_strategy",
]
