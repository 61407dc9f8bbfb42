from __future__ import annotations

import struct
import zlib

import pytest

from nstd.errors import DecodeError, TooLargeError, UnsupportedError
from nstd.photo.decode import decode
from nstd.photo.limits import Limits
from tests.photo.make import UPRIGHT, png_chunk, png_insert, read, saved


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(DecodeError, match=r'"beach\.jpg" is empty'):
        read(b"")


def test_text_named_jpg_is_called_text() -> None:
    with pytest.raises(DecodeError, match="it holds text"):
        read("Grüße vom Strand\n".encode() * 20)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"8BPS\0\1", "Photoshop"),
        (b"BM\x36\x84", "bitmap"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "ZIP"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", "film"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
    ],
)
def test_a_known_stranger_is_named_with_what_to_do(head: bytes, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        read(head + bytes(range(256)))
    assert "Export" in caught.value.remedy


def test_a_heif_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nstd.photo.header.readable", lambda name: name != "heif")
    with pytest.raises(UnsupportedError, match="HEIF") as caught:
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert "nstd[heif]" in caught.value.remedy


def _png_header(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [(20000, 20000, "400 megapixels"), (40000, 2000, "a side"), (30000, 10, "short one")],
)
def test_a_size_over_the_limit_is_refused_from_the_header(
    width: int, height: int, words: str
) -> None:
    with pytest.raises(TooLargeError, match=words):
        read(_png_header(width, height))


def test_a_file_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLargeError, match="MiB"):
        decode(bytes(2**20 + 1), limits=Limits(max_bytes=2**20), name="x.jpg")


def test_metadata_over_the_limit_are_refused() -> None:
    data = png_insert(saved(UPRIGHT, "PNG"), b"tEXt", b"Comment\0" + b"x" * 3000)
    with pytest.raises(TooLargeError, match="metadata"):
        decode(data, limits=Limits(max_metadata_bytes=2000))
    assert read(data).size == (64, 48)
