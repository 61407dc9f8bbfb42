from __future__ import annotations

import os
import struct
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nstd.photo.completeness import Completeness, completeness
from tests.photo.make import UPRIGHT, exif_of, needs_avif, needs_heif, noise, saved, tiff, zeroed


def judge(data: bytes) -> Completeness:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return completeness(file.fileno(), len(data), "beach.jpg")


WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "jpeg with exif": ("JPEG", {"exif": exif_of(Artist="Zoë".encode())}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "avif": ("AVIF", {}),
    "heif": ("HEIF", {}),
}


KINDS = [
    pytest.param(kind, marks={"avif": [needs_avif], "heif": [needs_heif]}.get(kind, []))
    for kind in WHOLE
]


def whole(kind: str, height: int = 200, width: int = 301) -> bytes:
    format_, options = WHOLE[kind]
    return saved(noise(height, width), format_, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_is_complete(kind: str) -> None:
    assert judge(whole(kind)) == Completeness(complete=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_a_part_is_not_complete_whether_cut_or_filled_with_zeros(kind: str, keep: float) -> None:
    data = whole(kind)
    for part in (data[: int(len(data) * keep)], zeroed(data, keep)):
        verdict = judge(part)
        assert not verdict.complete
        assert verdict.why


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
def test_one_byte_less_is_not_complete(kind: str) -> None:
    assert not judge(whole(kind)[:-1]).complete


@pytest.mark.parametrize("size", [0, 1, 10, 4096, 100_000])
def test_a_file_that_is_only_zeros_is_not_complete(size: int) -> None:
    assert not judge(bytes(size)).complete


@pytest.mark.parametrize("junk", [b"x", b"Hello, world\n" * 99, bytes(range(1, 256)) * 40, b"\xff"])
def test_what_is_no_picture_is_not_waited_for(junk: bytes) -> None:
    assert judge(junk).complete


def motion(film: bytes, padding: bytes = b"") -> bytes:
    """Return a JPEG whose XMP announces the film behind it."""
    xmp = f'<x GCamera:MicroVideoOffset="{len(film)}"/>'.encode()
    return saved(noise(100, 100), "JPEG", xmp=xmp) + padding + film


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + struct.pack(">I", 300_008) + b"mdat" + b"m" * 300_000


def test_trailers_of_phones_are_complete() -> None:
    picture = saved(noise(100, 100), "JPEG")
    samsung = b"\0" * 3000 + b"SEFH" + bytes(100_000) + b"\x24\0\0\0SEFT"
    assert judge(picture + samsung).complete
    assert judge(motion(FILM)).complete
    assert judge(picture + b"trailer" * 100).complete
    first = Image.fromarray(noise(100, 100))
    assert judge(saved(first, "MPO", save_all=True, append_images=[first])).complete


def test_a_cut_film_behind_a_picture_is_not_complete() -> None:
    data = motion(FILM)
    assert not judge(data[:-150_000] + bytes(150_000)[: 150_000 - 1]).complete
    assert not judge(data[:-100_000]).complete


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    """The thumbnail in EXIF is a JPEG with an end marker of its own."""
    block = Image.Exif()
    block[0x010E] = b"x" * 200 + b"\xff\xd9"
    data = saved(noise(200, 200), "JPEG", exif=block.tobytes())
    end = data.index(b"\xff\xd9") + 2
    assert not judge(data[:end]).complete
    assert not judge(data[: end + 3000]).complete


def test_zeros_behind_a_whole_picture_are_padding() -> None:
    assert judge(saved(UPRIGHT, "JPEG") + bytes(1000)).complete


def test_a_tiff_with_its_directory_first_waits_for_its_strips() -> None:
    data = tiff(noise(100, 100))
    assert judge(data).complete
    assert not judge(data[:-1]).complete
    assert not judge(data[:100]).complete


def test_a_big_tiff_is_followed_too() -> None:
    data = saved(noise(60, 60), "TIFF", big_tiff=True)
    assert judge(data).complete
    assert not judge(data[: len(data) // 2]).complete


def test_a_chain_of_directories_that_bites_its_tail_ends() -> None:
    data = bytearray(tiff(noise(10, 10)))
    at = 8 + 2 + 12 * struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, at, 8)
    assert judge(bytes(data)).complete


def test_a_directory_beyond_the_end_is_not_complete() -> None:
    assert not judge(b"II*\0\xff\xff\xff\x7f" + bytes(range(200))).complete
    assert not judge(b"II*\0\0\0\0\0" + bytes(range(200))).complete


def test_the_position_of_the_descriptor_stays() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(saved(UPRIGHT, "JPEG"))
        file.flush()
        os.lseek(file.fileno(), 7, os.SEEK_SET)
        completeness(file.fileno(), 500, "x.jpg")
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 7


def test_a_file_that_shrank_meanwhile_is_not_complete() -> None:
    data = saved(UPRIGHT, "JPEG")
    with tempfile.TemporaryFile() as file:
        file.write(data[:100])
        file.flush()
        assert not completeness(file.fileno(), len(data), "x.jpg").complete


def test_what_cannot_be_read_is_not_complete() -> None:
    read_end, write_end = os.pipe()
    try:
        verdict = completeness(read_end, 100, "x.jpg")
        assert not verdict.complete
        assert "cannot be read" in verdict.why
    finally:
        os.close(read_end)
        os.close(write_end)


HEADS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBPVP8 ", b"GIF89a", b"II*\0",
         b"MM\0*", b"II+\0", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif", b""]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=300))
def test_junk_never_raises(head: bytes, rest: bytes) -> None:
    assert isinstance(judge(head + rest), Completeness)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["jpeg", "png", "webp", "gif", "tiff"]),
    at=st.integers(0, 10**9),
    value=st.integers(0, 255),
)
def test_a_changed_byte_never_raises(kind: str, at: int, value: int) -> None:
    data = bytearray(whole(kind, 20, 30))
    data[at % min(len(data), 400)] = value
    assert isinstance(judge(bytes(data)), Completeness)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "gif"])
def test_only_a_little_is_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = os.pread

    def counting(fd: int, count: int, offset: int) -> bytes:
        data = real(fd, count, offset)
        read.append(len(data))
        return data

    data = whole(kind, 800, 900)
    monkeypatch.setattr(os, "pread", counting)
    judge(data)
    assert sum(read) < 150_000
