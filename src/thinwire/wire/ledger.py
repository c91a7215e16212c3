"""The ledger: every message a collective sends, counted where it is sent, by device and layer."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Entry:
    """One collective of one layer."""

    layer: int
    site: str  # what was sent: "kv", "attn_out", ...
    collective: str  # how: "all_gather", "ring_shift", ...
    bytes_by_device: tuple[int, ...]  # sent, summed over receivers
    messages_by_device: tuple[int, ...]


@dataclasses.dataclass
class Ledger:
    """All entries of one forward pass. Filled while the program is traced: the bytes of an SPMD program are static."""

    entries: list[Entry] = dataclasses.field(default_factory=list)

    def bytes_by_device(self) -> tuple[int, ...]:
        """Bytes each device sends in the whole pass."""
        return tuple(sum(column) for column in zip(*(e.bytes_by_device for e in self.entries), strict=True))

    def messages_by_device(self) -> tuple[int, ...]:
        """Messages each device sends in the whole pass."""
        return tuple(sum(column) for column in zip(*(e.messages_by_device for e in self.entries), strict=True))

    def by_layer(self) -> dict[int, int]:
        """Bytes that all devices together send in each layer."""
        layers: dict[int, int] = {}
        for entry in self.entries:
            layers[entry.layer] = layers.get(entry.layer, 0) + sum(entry.bytes_by_device)
        return layers


_open: contextvars.ContextVar[Ledger | None] = contextvars.ContextVar("ledger", default=None)
_layers: contextvars.ContextVar[range] = contextvars.ContextVar("layers", default=range(-1, 0))


@contextlib.contextmanager
def recording() -> Iterator[Ledger]:
    """Collects what the collectives traced inside send. Trace exactly once inside: ``jit(f).lower(...)``."""
    ledger = Ledger()
    token = _open.set(ledger)
    try:
        yield ledger
    finally:
        _open.reset(token)


@contextlib.contextmanager
def layers(which: range) -> Iterator[None]:
    """Says that what is traced inside happens once in each of these layers (a scanned layer body is traced once)."""
    token = _layers.set(which)
    try:
        yield
    finally:
        _layers.reset(token)


@contextlib.contextmanager
def repeated(times: int) -> Iterator[None]:
    """Says that what is traced inside runs ``times`` times within the layer (a scanned loop of hops)."""
    ledger = _open.get()
    before = len(ledger.entries) if ledger else 0
    yield
    if ledger:
        inside = ledger.entries[before:]
        ledger.entries[before:] = inside * times


def record(site: str, collective: str, bytes_by_device: tuple[int, ...], messages_by_device: tuple[int, ...]) -> None:
    """Writes one collective into the open ledger, if there is one."""
    ledger = _open.get()
    if ledger is not None:
        ledger.entries += [Entry(n, site, collective, bytes_by_device, messages_by_device) for n in _layers.get()]
