"""Which device holds which tokens: any number of devices, any split, padded to one shape for SPMD."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from thinwire.errors import ThinwireError

# The position of a row that holds no token. Later than every real one, so causal masks hide it by themselves.
PAD = 2**30


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """The tokens of one sequence over ``devices``.

    The first ``shared`` tokens are held by every device (a recomputed attention sink). Each further token belongs to
    one device: device n holds the half-open ranges ``segments[n]``, ascending. All devices have equally many segments,
    and segment s is padded to its longest length, so that every device has ``rows`` rows.
    """

    tokens: int
    shared: int
    segments: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self.segments)

    @functools.cached_property
    def segment_rows(self) -> tuple[tuple[int, int], ...]:
        """The rows (start, stop) that each segment takes on every device."""
        lengths = [max(stop - start for start, stop in column) for column in zip(*self.segments, strict=True)]
        ends = np.cumsum(lengths).tolist()
        return tuple((end - length, end) for end, length in zip(ends, lengths, strict=True) if length)

    @property
    def rows(self) -> int:
        """Rows R of a device's own tokens, padding included, shared tokens not."""
        return self.segment_rows[-1][1] if self.segment_rows else 0

    @functools.cached_property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens that each device owns."""
        return tuple(sum(stop - start for start, stop in own) for own in self.segments)

    @functools.cached_property
    def positions_NR(self) -> Int[np.ndarray, "N R"]:
        """The position of each row's token in the sequence, PAD where there is none."""
        positions = np.full((self.devices, self.rows), PAD, np.int32)
        columns = [max(stop - start for start, stop in column) for column in zip(*self.segments, strict=True)]
        starts = np.concatenate([[0], np.cumsum(columns)])
        for n, own in enumerate(self.segments):
            for s, (start, stop) in enumerate(own):
                positions[n, starts[s] : starts[s] + stop - start] = np.arange(start, stop)
        return positions

    @functools.cached_property
    def valid_NR(self) -> Bool[np.ndarray, "N R"]:
        """Which rows hold a token."""
        return self.positions_NR < PAD

    @functools.cached_property
    def places(self) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"]]:
        """For each token its device and its row among that device's ``shared + rows``."""
        device_T = np.zeros(self.tokens, np.int32)
        row_T = np.arange(self.tokens, dtype=np.int32)
        for n in range(self.devices):
            rows = np.flatnonzero(self.valid_NR[n])
            device_T[self.positions_NR[n, rows]] = n
            row_T[self.positions_NR[n, rows]] = self.shared + rows
        return device_T, row_T

    def join(self, values_NR):
        """Rows by device (N, shared + R, ...) back to the sequence (T, ...)."""
        device_T, row_T = self.places
        breaks = np.flatnonzero((np.diff(device_T) != 0) | (np.diff(row_T) != 1)) + 1
        runs = zip([0, *breaks.tolist()], [*breaks.tolist(), self.tokens], strict=True)
        # Stretch by stretch: rows of logits are long, and picking them one by one is slow.
        return np.concatenate([values_NR[device_T[a], row_T[a] : row_T[a] + b - a] for a, b in runs])

    def visible_pairs(self, causal: bool) -> tuple[int, ...]:
        """Number of (query, key) pairs that each device's attention has to compute."""
        shared = sum(range(1, self.shared + 1)) if causal else self.shared * self.tokens
        if not causal:
            return tuple(shared + length * self.tokens for length in self.lengths)
        return tuple(shared + int((row[valid].astype(np.int64) + 1).sum()) for row, valid in self._rows())

    def _rows(self):
        return zip(self.positions_NR, self.valid_NR, strict=True)


def split_lengths(tokens: int, parts: int, weights: Sequence[float] | None = None) -> list[int]:
    """Cuts ``tokens`` in ``parts`` by largest remainder, in proportion to ``weights`` (even if None), none empty."""
    if parts < 1:
        raise ThinwireError(f"{parts} devices cannot hold anything; ask for at least 1.")
    if tokens < parts:
        raise ThinwireError(f"{tokens} tokens cannot be split over {parts} devices; use at most {tokens} devices.")
    share = np.ones(parts) if weights is None else np.asarray(weights, float)
    if len(share) != parts or not np.all(np.isfinite(share)) or np.any(share <= 0):
        raise ThinwireError(
            f"The split {list(weights or [])} does not give {parts} devices a share each; "
            f"write {parts} positive numbers."
        )
    exact = share / share.sum() * tokens
    lengths = np.maximum(np.floor(exact).astype(int), 1)
    while lengths.sum() > tokens:  # only where tiny shares were raised to one token
        lengths[np.argmax(np.where(lengths > 1, lengths - exact, -np.inf))] -= 1
    for part in np.argsort(-(exact - lengths), kind="stable")[: tokens - lengths.sum()]:
        lengths[part] += 1
    return lengths.tolist()


def contiguous(tokens: int, devices: int, split: Sequence[float] | None = None, shared: int = 0) -> TokenLayout:
    """Device n holds the n-th stretch of the sequence, its length in proportion to ``split[n]``."""
    lengths = split_lengths(tokens - shared, devices, split)
    bounds = shared + np.concatenate([[0], np.cumsum(lengths)])
    segments = tuple(((int(a), int(b)),) for a, b in zip(bounds[:-1], bounds[1:], strict=True))
    return TokenLayout(tokens, shared, segments)


def zigzag(tokens: int, devices: int, split: Sequence[float] | None = None, shared: int = 0) -> TokenLayout:
    """Device n holds stretches n and 2N−1−n, so that causal attention costs every device the same."""
    split_lengths(max(tokens, devices), devices, split)  # tells of a bad split as it was written
    if tokens - shared < 2 * devices:
        raise ThinwireError(
            f"A zigzag over {devices} devices needs {2 * devices} tokens and has {tokens - shared}; "
            "use fewer devices or layout=contiguous."
        )
    weights = [1.0] * devices if split is None else list(split)
    lengths = split_lengths(tokens - shared, 2 * devices, weights + weights[::-1])
    bounds = (shared + np.concatenate([[0], np.cumsum(lengths)])).tolist()
    ranges = list(zip(bounds[:-1], bounds[1:], strict=True))
    return TokenLayout(tokens, shared, tuple((ranges[n], ranges[2 * devices - 1 - n]) for n in range(devices)))


LAYOUTS = {"contiguous": contiguous, "zigzag": zigzag}
