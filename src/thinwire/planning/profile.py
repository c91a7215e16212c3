"""What a device and its links take for the pieces of a model, as measured; and the seconds of a pass made of them."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.strategies.work import Work

DESCRIPTION = (
    "latency = max over devices of (layers x (a layer's matrices for its rows + projections of others' rows + its "
    "pairs of attention) + coded layers x coding + embedding and output + 8 x bytes sent / (efficiency x rate)) + "
    "messages x seconds a message; every piece is measured by itself on the same device, with a straight line between "
    "measured sizes; nothing overlaps but what causal models send between CPU hosts: there the slower of work and wire "
    "counts, and the last packet"
)


@dataclasses.dataclass(frozen=True)
class Curve:
    """Measured seconds by size, a straight line between sizes; beyond the largest in proportion.

    Seconds never fall as the size grows: where a measurement says so, the larger value before it counts.

    Raises:
        ThinwireError: sizes do not ascend, or there are none, or seconds are no positive numbers.
    """

    sizes: tuple[float | int, ...]
    seconds: tuple[float | int, ...]

    def __post_init__(self):
        """Checks the numbers."""
        fits = len(self.sizes) == len(self.seconds) > 0 and self.sizes[0] > 0
        if not (fits and all(a < b for a, b in itertools.pairwise(self.sizes)) and min(self.seconds) >= 0):
            raise ThinwireError(f"sizes {list(self.sizes)} and seconds {list(self.seconds)} are no curve of a profile.")

    def at(self, size: float | int) -> float:
        """Seconds for a size; none for none. Below the smallest, on the first line down to no size."""
        if size <= 0:
            return 0.0
        sizes, seconds = np.asarray(self.sizes, float), np.maximum.accumulate(np.asarray(self.seconds, float))
        if size >= sizes[-1]:
            return float(seconds[-1] * size / sizes[-1])
        start = 0.0
        if len(sizes) > 1:
            start = max(0.0, seconds[0] - sizes[0] * (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]))
        return float(np.interp(size, [0.0, *sizes], [min(start, seconds[0]), *seconds]))


@dataclasses.dataclass(frozen=True)
class Link:
    """What exchanges of one kind cost a device.

    Attributes:
        message_s: of each message that it sends, however short: a collective sends one to each other device in turn.
        efficiency: part of the link's rate that the bytes of the ledger get.

    Raises:
        ThinwireError: a number is impossible.
    """

    message_s: float = 0.0
    efficiency: float = 1.0

    def __post_init__(self):
        """Checks the numbers."""
        if not (self.message_s >= 0 and self.efficiency > 0):
            raise ThinwireError(
                f"a message of {self.message_s} s and an efficiency of {self.efficiency} are no link of a profile."
            )


@dataclasses.dataclass(frozen=True)
class Profile:
    """One device of one kind: what the pieces of a model take on it, and what its exchanges with others do.

    The cost of a pass by any strategy is a sum of these, so a few small programs tell of strategies, lengths, numbers
    of devices and rates that were never run.

    Attributes:
        model: whose sizes the pieces have.
        dtype: of computation.
        layer: rows -> s, one layer without its attention: matrices, norms, activations, weights from memory.
        part: rows -> s, the same for a device that has a part of the heads and hidden columns, norms and sums whole.
        part_share: of a layer's FLOPs, that of such a part.
        kv_share: of a layer's FLOPs, that of its key and value projections.
        attention: pairs -> s, one layer's attention of rows to as many keys, masked if the model is causal.
        ends: rows -> s, what enters layer 0, and the output of one row.
        coding: by the name of a ``thinwire.strategies.work.Coding``, rows -> s.
        links: by the kind of exchange (``Work.exchange``); none for a device that is alone.
    """

    model: str
    dtype: str
    layer: Curve
    part: Curve
    part_share: float
    kv_share: float
    attention: Curve
    ends: Curve
    coding: Mapping[str, Curve]
    links: Mapping[str, Link] = dataclasses.field(default_factory=dict)

    def parts_s(self, work: Work) -> dict[str, float]:
        """Seconds of local work in a pass: ``layer``, ``attention``, ``project``, ``ends``, and by kind of coding.

        Raises:
            ThinwireError: a codec was not profiled.
        """
        parts = {
            "layer": work.layers * self.layer_s(work.rows, work.share),
            "attention": work.layers * self.attention.at(work.pairs),
            "project": work.layers * self.kv_share * self.matrices_s(work.projected),
            "ends": self.ends.at(work.rows),
        }
        for one, rows in work.coding:
            if one.name not in self.coding:
                raise ThinwireError(
                    f"the profile does not know {one.name}; it has {', '.join(self.coding) or 'no codec'}: profile it."
                )
            spent = work.coded_layers * self.coding[one.name].at(rows)
            parts[one.kind] = parts.get(one.kind, 0.0) + spent
        return parts

    def matrices_s(self, rows: float | int) -> float:
        """Seconds of all matrices of a layer for so many rows: what a whole layer takes more than a part, scaled up."""
        return max(0.0, self.layer.at(rows) - self.part.at(rows)) / (1 - self.part_share)

    def layer_s(self, rows: float | int, share: float | int = 1) -> float:
        """Seconds of a layer without attention, of a device that has such a share of its matrices."""
        return max(0.0, self.layer.at(rows) - (1 - share) * self.matrices_s(rows))

    def local_s(self, work: Work) -> float:
        """Seconds of a device's local work in a pass."""
        return sum(self.parts_s(work).values())

    def wire_s(self, work: Work, sent: float | int, mbps: float | int) -> float:
        """Seconds for which ``sent`` bytes keep a link of that rate busy."""
        return 8e-6 * sent / (self.link(work).efficiency * mbps) if sent else 0.0

    def wait_s(self, work: Work, messages: int, rounds: int) -> float:
        """Seconds of the messages themselves, however short."""
        del rounds
        return messages * self.link(work).message_s if messages else 0.0

    def link(self, work: Work) -> Link:
        """What the exchanges of a pass cost.

        Raises:
            ThinwireError: exchanges of the kind were not profiled.
        """
        if work.exchange not in self.links:
            raise ThinwireError(f"the profile knows no exchange of the kind {work.exchange!r}: profile several hosts.")
        return self.links[work.exchange]


def to_plain(profile: Profile) -> dict[str, Any]:
    """The profile in JSON's own types."""
    return json.loads(json.dumps(dataclasses.asdict(profile)))


def from_plain(found: Any) -> Profile:
    """The profile that ``to_plain`` wrote.

    Raises:
        ThinwireError: it is none.
    """
    try:
        curve = lambda one: Curve(tuple(one["sizes"]), tuple(one["seconds"]))
        layer, part, attention, ends = (curve(found[name]) for name in ("layer", "part", "attention", "ends"))
        coding = {key: curve(one) for key, one in found["coding"].items()}
        links = {kind: Link(float(one["message_s"]), float(one["efficiency"])) for kind, one in found["links"].items()}
        shares = {name: float(found[name]) for name in ("part_share", "kv_share")}
        profile = Profile(
            str(found["model"]), str(found["dtype"]), layer=layer, part=part, attention=attention, ends=ends,
            coding=coding, links=links, **shares,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ThinwireError(f"this is no profile of a machine ({error!r}); measure one anew.") from error
    if not (0 < profile.part_share < 1 and 0 <= profile.kv_share <= 1):
        raise ThinwireError("the profile of a machine has an impossible share of a layer; measure one anew.")
    return profile


def read_profiles(path: str | Path) -> tuple[Profile, ...]:
    """The profiles of a file of ``{"profiles": [...]}``, one a host.

    Raises:
        ThinwireError: it cannot be read, or holds none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))["profiles"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ThinwireError(f"{path} holds no profiles of machines ({error!r}); measure them anew.") from error
    if not (isinstance(found, list) and found):
        raise ThinwireError(f"{path} holds no profiles of machines; measure them anew.")
    return tuple(from_plain(one) for one in found)
