from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.text_stream import TextStream


def decode(tokens):
    """A tokenizer whose tokens are bytes."""
    return bytes(tokens).decode("utf-8", errors="replace")


def pieces(raw):
    stream = TextStream(decode)
    return [*(stream.add(byte) for byte in raw), stream.end()]


def test_a_character_comes_when_it_is_whole():
    assert pieces("aé€😀b".encode()) == ["a", "", "é", "", "", "€", "", "", "", "😀", "b", ""]


def test_what_never_becomes_whole_comes_in_the_end():
    assert pieces(b"a\xe2\x82") == ["a", "", "", "\ufffd"]
    assert pieces(b"\xe2\x82b\xff") == ["", "", "\ufffdb", "", "\ufffd"]
    assert pieces(b"") == [""]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.binary(max_size=24), st.text(max_size=12).map(str.encode)))
def test_the_pieces_are_the_text(raw):
    found = pieces(raw)
    assert "".join(found) == decode(raw)
    assert not any(piece.endswith("\ufffd") for piece in found[:-1])


def test_little_is_decoded_again():
    lengths = []

    def counted(tokens):
        lengths.append(len(tokens))
        return decode(tokens)

    stream = TextStream(counted)
    for byte in b"plain text " * 20:
        stream.add(byte)
    assert max(lengths) == 2
