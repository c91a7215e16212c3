"""What a model's layer asks of a strategy: its queries, and its values where context may be coded."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One attention of one layer on the rows that a device holds, at ``position_T`` of the sequence.

    ``sites`` maps a site to the rows' values there: ``x`` (the layer input), ``norm`` (normalised), ``kv`` (keys
    before rotation, then values, of all heads side by side). ``queries(norm)`` makes the queries of the rows at that
    site; ``keys_values(site, rows)`` finishes the way from any site to keys and values (T, K, d); ``rotate(x,
    positions)`` applies the position code, the identity where a model has none, which ``rotary`` tells.
    """

    position_T: Int[Array, " T"]
    queries: Callable[[Float[Array, "T D"]], Float[Array, "T H d"]]
    sites: Mapping[str, Float[Array, "T _"]]
    keys_values: Callable[[str, Float[Array, "T _"]], tuple[Float[Array, "T K d"], Float[Array, "T K d"]]]
    rotate: Callable[[Float[Array, "T _ d"], Int[Array, " T"]], Float[Array, "T _ d"]]
    scale: float
    causal: bool
    rotary: bool = True

    @functools.cached_property
    def q_THd(self) -> Float[Array, "T H d"]:
        """The queries of all rows."""
        return self.queries(self.sites["norm"])
