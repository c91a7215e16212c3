"""Windows of tokens: where they come from, and that they are the same each time."""

import numpy as np
import pytest

from thinwire.data.windows import windows
from thinwire.errors import ThinwireError


class Letters:
    """A tokenizer of one id a character."""

    def __init__(self, prefix=(), suffix=()):
        self.prefix, self.suffix = prefix, suffix

    def encode_batch(self, texts):
        return [[ord(c) for c in text] for text in texts]


def text_of(row) -> str:
    return "".join(map(chr, row))


LONG = ["".join(chr(1000 * d + i) for i in range(100)) for d in (1, 2, 3)]


def test_each_window_lies_in_one_document_and_none_overlap():
    cut = windows(LONG, Letters(), 20, 12, seed=0)
    assert cut.shape == (12, 20)
    assert cut.dtype == np.int32
    for row in cut:
        assert any(text_of(row) in doc for doc in LONG)
    assert len(set(cut.ravel().tolist())) == cut.size


def test_the_seed_decides():
    a, b, c = (windows(LONG, Letters(), 20, 5, seed) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_short_documents_are_joined_when_needed():
    short = ["abcdefgh", "ijklmnop", "qrstuvwx"]
    cut = windows([LONG[0], *short], Letters(), 26, 4, seed=0)
    joined = "\n\n".join(short)
    assert sum(text_of(row) in joined for row in cut) == 1
    with pytest.raises(ThinwireError, match=r"124 tokens hold 4 windows of 26, and 5 were asked for"):
        windows([LONG[0], *short], Letters(), 26, 5, seed=0)


def test_prefix_begins_every_window():
    cut = windows(LONG, Letters(prefix=(7,)), 10, 3, seed=0)
    assert cut.shape == (3, 10)
    assert np.all(cut[:, 0] == 7)
    assert not np.any(cut[:, 1:] == 7)


def test_prefix_and_suffix_count_as_tokens_of_a_window():
    cut = windows(LONG, Letters(prefix=(7,), suffix=(8, 9)), 10, 3, seed=0)
    assert cut.shape == (3, 10)
    np.testing.assert_array_equal(cut[:, [0, 8, 9]], [[7, 8, 9]] * 3)
    assert all(text_of(row[1:8]) in "".join(LONG) for row in cut)


@pytest.mark.parametrize(
    ("documents", "length", "count", "words"),
    [
        ([], 8, 1, "no text"),
        (["", " \n"], 8, 1, "no text"),
        (LONG, 0, 1, "must be positive"),
        (LONG, 8, 0, "must be positive"),
        (LONG, 101, 1, "too short"),
    ],
)
def test_what_cannot_be_cut(documents, length, count, words):
    if length == 101:
        documents = documents[:1]
    with pytest.raises(ThinwireError, match=words):
        windows(documents, Letters(), length, count, seed=0)
