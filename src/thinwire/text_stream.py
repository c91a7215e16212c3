"""Text as its tokens come: characters only when all their bytes are there."""

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # what a tokenizer puts in the place of bytes that are no character, or not yet


class TextStream:
    """Turns tokens into text piece by piece; the pieces together are the text of all tokens.

    A character may be spread over several tokens. A piece that ends in an incomplete one waits for the next token, and
    only tokens that have given no text yet, and those of the piece before them, are decoded again.

    Args:
        decode: token ids to text, with U+FFFD for bytes that are no UTF-8.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self._before: list[int] = []  # the last tokens whose text was given: what follows may depend on them
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        """The text that one more token completes; often its own, perhaps none."""
        self._waiting.append(token)
        new = self._new()
        return "" if not new or new.endswith(_BROKEN) else self._give(new)

    def end(self) -> str:
        """What was still held back, with U+FFFD for bytes that never came."""
        return self._give(self._new())

    def _new(self) -> str:
        known = self._decode(self._before)
        return self._decode([*self._before, *self._waiting])[len(known) :]

    def _give(self, text: str) -> str:
        self._before, self._waiting = self._waiting, []
        return text
