"""How heads and columns are dealt to devices that do not divide them: contiguous, uneven, padded with zeros."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class HeadPlan:
    """Query heads dealt in order, as evenly as they go; each device also gets every key head its queries share."""

    heads: int
    kv_heads: int
    devices: int

    @functools.cached_property
    def query_NH(self) -> Int[np.ndarray, "N Hn"]:
        """The query heads of each device, −1 where a slot is empty."""
        return deal(self.heads, self.devices)

    @functools.cached_property
    def key_NK(self) -> Int[np.ndarray, "N Kn"]:
        """The key heads of each device, −1 where a slot is empty."""
        group = self.heads // self.kv_heads
        wanted = [sorted({int(h) // group for h in row if h >= 0}) for row in self.query_NH]
        slots = max(1, *(len(w) for w in wanted)) if self.devices > 1 else max(1, len(wanted[0]))
        return np.array([w + [-1] * (slots - len(w)) for w in wanted], np.int32)

    @functools.cached_property
    def key_slot_NH(self) -> Int[np.ndarray, "N Hn"]:
        """For each query slot of each device the slot of its key head there (0 where the slot is empty)."""
        group = self.heads // self.kv_heads
        slots = np.zeros_like(self.query_NH)
        for n, row in enumerate(self.query_NH):
            for slot, head in enumerate(row):
                if head >= 0:
                    slots[n, slot] = self.key_NK[n].tolist().index(head // group)
        return slots

    @property
    def regular(self) -> bool:
        """Whether every device's query heads share its key heads in equal groups, in order, with no slot empty."""
        Hn, Kn = self.query_NH.shape[1], self.key_NK.shape[1]
        return Hn % Kn == 0 and bool((self.key_slot_NH == np.arange(Hn) // (Hn // Kn)).all())


def deal(items: int, devices: int) -> Int[np.ndarray, "N n"]:
    """Indices 0 … items−1 in order over devices, as evenly as they go, padded with −1 to one length."""
    bounds = [items * n // devices for n in range(devices + 1)]
    length = max(1, *np.diff(bounds)) if devices > 1 else max(1, items)
    rows = [[*range(a, b)] + [-1] * (length - (b - a)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return np.array(rows, np.int32)
