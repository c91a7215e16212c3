"""Text files: what is read, and what is refused."""

import pytest

from thinwire.data.text import read_documents, read_text
from thinwire.errors import ThinwireError


def test_reads_utf8(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffGrüße\r\nzweite Zeile\n".encode())
    assert read_text(path) == read_text(str(path)) == "Grüße\nzweite Zeile\n"


@pytest.mark.parametrize(("raw", "at"), [(b"abc\xff", 3), (b"\xef\xbb\xbfab\xc3", 5), (b"\x80", 0)])
def test_other_encodings_are_told_by_byte(tmp_path, raw, at):
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    with pytest.raises(ThinwireError, match=rf"a\.txt is not UTF-8: byte {at} \(0x{raw[at]:02x}\)"):
        read_text(path)


@pytest.mark.parametrize("raw", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_empty(tmp_path, raw):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(ThinwireError, match="holds no text"):
        read_text(tmp_path / "a.txt")


def test_missing(tmp_path):
    with pytest.raises(ThinwireError, match=r"there is no text 'wikipedia-exerpt', did you mean wikipedia-excerpt\?"):
        read_text("wikipedia-exerpt")
    with pytest.raises(ThinwireError, match="known texts are wikipedia-excerpt"):
        read_text(tmp_path / "zzz")
    with pytest.raises(ThinwireError, match="cannot read"):
        read_text(tmp_path)
    with pytest.raises(ThinwireError, match="cannot read"):
        read_text("a\0b")


def test_a_file_is_split_once_at_the_end_of_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i}\n" for i in range(100)))
    (calibration,), (test,) = read_documents(path, "calibration"), read_documents(path, "test")
    assert calibration + test == path.read_text()
    assert calibration.endswith("\n")
    assert 0.55 < len(calibration) / len(path.read_text()) < 0.65
    with pytest.raises(ThinwireError, match="unknown split 'dev'"):
        read_documents(path, "dev")
    path.write_text("x")
    with pytest.raises(ThinwireError, match="too short to be split"):
        read_documents(path, "calibration")
