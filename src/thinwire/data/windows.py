"""Windows of tokens cut from documents: what calibration and evaluation read."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from thinwire.errors import ThinwireError

_SEPARATOR = "\n\n"  # between short documents that share a window


@runtime_checkable
class Encoder(Protocol):
    """What windows need of a tokenizer."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts, without ``prefix`` and ``suffix``."""
        ...


def windows(documents: Iterable[str], tokenizer: Encoder, length: int, count: int, seed: int) -> np.ndarray:
    """Token windows that do not overlap, int32 (count, length), the same for the same seed.

    Each lies inside one document; when those do not suffice, documents shorter than a window are joined by blank lines
    and cut too. Every window stands between the tokenizer's prefix (a BOS token) and suffix, if the model wants them.

    Args:
        documents: texts.
        tokenizer: of the model that will read the windows.
        length: tokens a window, prefix and suffix included.
        count: windows.
        seed: which windows, and where in their documents they begin.

    Raises:
        ThinwireError: length or count is not positive, or the documents hold too little text.
    """
    prefix, suffix = list(tokenizer.prefix), list(tokenizer.suffix)
    body = length - len(prefix) - len(suffix)
    if body < 1 or count < 1:
        raise ThinwireError(f"cannot cut {count} windows of {length} tokens: both numbers must be positive")
    texts = [text for text in documents if text.strip()]
    if not texts:
        raise ThinwireError("there is no text to cut windows from: the documents are empty")
    encoded = tokenizer.encode_batch(texts)
    rng = np.random.default_rng(seed)
    cut = _cut([ids for ids in encoded if len(ids) >= body], body, rng)
    if len(cut) < count:
        short = [text for text, ids in zip(texts, encoded, strict=True) if len(ids) < body]
        joined = tokenizer.encode_batch([_SEPARATOR.join(short)]) if short else []
        more = _cut([ids for ids in joined if len(ids) >= body], body, rng)
        if len(cut) + len(more) < count:
            total = sum(map(len, encoded))
            raise ThinwireError(
                f"the text is too short: its {total} tokens hold {len(cut) + len(more)} windows of {length}, "
                f"and {count} were asked for; ask for fewer or shorter windows, or give a longer text"
            )
        cut += more
    return np.array([prefix + ids + suffix for ids in cut[:count]], np.int32)


def _cut(documents: Sequence[list[int]], body: int, rng: np.random.Generator) -> list[list[int]]:
    """Every window of documents that hold at least one, from a random place on, in random order."""
    found = []
    for ids in documents:
        start = int(rng.integers(len(ids) % body + 1))
        found += [ids[at : at + body] for at in range(start, len(ids) - body + 1, body)]
    return [found[i] for i in rng.permutation(len(found))]
