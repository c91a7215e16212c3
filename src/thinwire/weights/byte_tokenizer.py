"""A text as its bytes: the tokenizer of language models that are trained here from scratch."""

from collections.abc import Iterable, Sequence
from typing import SupportsInt


class ByteTokenizer:
    """Ids 0 to 255 are the bytes of UTF-8; nothing stands before or behind a text, and nothing ends it.

    Attributes:
        vocab, eos_ids, prefix, suffix: as of ``TextTokenizer``.
    """

    vocab = 256
    eos_ids: tuple[int, ...] = ()
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        """The bytes of a text."""
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The bytes of several texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of some bytes; those that are no UTF-8 become U+FFFD."""
        return bytes(int(i) for i in ids).decode(errors="replace")
