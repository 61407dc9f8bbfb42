"""Hostile and broken pictures, built by code: bombs, giants, lies, and halves of every format.

`CASES` is for every door that takes pictures: decoding in a child, the inbox, the daemon.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from nstd.errors import DecodeError, InputError, TooLargeError, UnsupportedError
from nstd.photo.formats import readable
from tests.photo.make import exif_of, noise, png_chunk, png_insert, saved, scene, tiff, zeroed

MEGA = 2**20


@dataclass(frozen=True)
class Case:
    """One file, and how decoding it may end: an error, or None where a picture comes out."""

    name: str
    make: Callable[[], bytes]
    ends: type[InputError] | None
    """The error of a decode with the usual limits and 512 MiB of memory."""
    endless: bool = False
    """Takes longer than anybody waits; only the time limit ends it."""


def write_all(folder: Path) -> Iterator[tuple[Path, Case]]:
    """Write every case into ``folder`` under its own name."""
    for case in CASES:
        path = folder / case.name
        path.write_bytes(case.make())
        yield path, case


# --- PNG ---------------------------------------------------------------------------------------


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of any claimed size with any compressed contents."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )


def inflating(size: int) -> bytes:
    """Return a zlib stream of ``size`` zeros, from one packed block said again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(MEGA)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = last.compress(bytes(size % MEGA)) + last.flush()
    adler = (size % 65521) << 16 | 1  # of zeros: RFC 1950, section 9
    return b"\x78\xda" + block * (size // MEGA) + end + struct.pack(">I", adler)


def _small_png(**options: Any) -> bytes:
    return saved(scene(), "PNG", **options)


def _png_of_many_texts() -> bytes:
    bomb = b"Comment\0\0" + inflating(64 * MEGA)
    data = _small_png()
    return data[:33] + png_chunk(b"zTXt", bomb) * 40 + data[33:]


def _png_exif_bomb() -> bytes:
    return png_insert(_small_png(), b"eXIf", exif_bomb(MEGA // 2))


# --- EXIF and TIFF -----------------------------------------------------------------------------


def exif_bomb(size: int) -> bytes:
    """Return an EXIF block in which thousands of entries each claim nearly all of it."""
    count = min(60_000, size // 24)
    entries = b"".join(
        struct.pack(">HHII", 0x100 + number % 0xE000, 1, size - 8, 8) for number in range(count)
    )
    block = b"MM\0*" + struct.pack(">IH", 8, count) + entries + bytes(4)
    return block.ljust(size, b"x")


def _tiff_with(changes: dict[int, tuple[int, int, int]]) -> bytes:
    """Return a small TIFF in which some entries (tag: kind, count, value) are replaced."""
    data = bytearray(tiff(scene()))
    (count,) = struct.unpack_from("<H", data, 8)
    for at in range(10, 10 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in changes:
            struct.pack_into("<HHII", data, at, tag, *changes[tag])
    return bytes(data)


def _tiff_bomb(size: int) -> bytes:
    """Return a TIFF of size x size pixels in one deflated strip of zeros."""
    strip = inflating(size * size * 3)
    return _wrapped_tiff(size, size, 8, strip)


def _wrapped_tiff(width: int, height: int, compression: int, strip: bytes) -> bytes:
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression),
        (262, 3, 1, 2), (273, 4, 1, 8 + 2 + 10 * 12 + 4), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(strip)), (284, 3, 1, 1),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + strip


def _tiff_loop() -> bytes:
    data = bytearray(tiff(scene()))
    struct.pack_into("<I", data, 10 + 12 * struct.unpack_from("<H", data, 8)[0], 8)
    return bytes(data)


def _big_tiff_of_quintillions() -> bytes:
    entry = struct.pack("<HHQQ", 256, 16, 2**60, 16)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**59) + entry * 20


# --- JPEG --------------------------------------------------------------------------------------


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(saved(scene(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _jpeg_with(segment: bytes, times: int = 1, marker: int = 0xE1) -> bytes:
    data = saved(scene(), "JPEG")
    packed = bytes((0xFF, marker)) + struct.pack(">H", len(segment) + 2) + segment
    return data[:2] + packed * times + data[2:]


def _jpeg_of_many_scans() -> bytes:
    """Repeat the scans of a progressive picture: each costs a pass over all of it."""
    data = saved(Image.new("L", (8000, 8000)), "JPEG", progressive=True)
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:at] + data[at:-2] * 300 + data[-2:]


# --- WebP, GIF, AVIF ---------------------------------------------------------------------------


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP of these chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_canvas(width: int, height: int) -> bytes:
    """Return a film whose only frame is tiny, on a canvas of any size."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + b"\x3f\0\0\x2f\0\0" + b"\x64\0\0\0" + saved(scene(), "WEBP")[12:]
    return riff((b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", frame))


def _gif(screen: tuple[int, int], frame: tuple[int, int], codes: bytes) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    image = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x08"
    blocks = b"".join(
        bytes((len(codes[at : at + 255]),)) + codes[at : at + 255]
        for at in range(0, len(codes), 255)
    )
    return head + image + blocks + b"\0;"


def _avif_of(width: int, height: int) -> bytes:
    data = bytearray(saved(scene(), "AVIF"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


# --- halves ------------------------------------------------------------------------------------

_WHOLE: dict[str, Callable[[], bytes]] = {
    "baseline.jpg": lambda: saved(noise(200, 301), "JPEG", quality=90),
    "progressive.jpg": lambda: saved(noise(200, 301), "JPEG", quality=90, progressive=True),
    "photograph.png": lambda: saved(noise(200, 301), "PNG"),
    "lossy.webp": lambda: saved(noise(200, 301), "WEBP", quality=90),
    "lossless.webp": lambda: saved(noise(200, 301), "WEBP", lossless=True),
    "plain.tif": lambda: saved(noise(200, 301), "TIFF"),
    "lzw.tif": lambda: saved(noise(200, 301), "TIFF", compression="tiff_lzw"),
    "drawing.gif": lambda: saved(noise(200, 301), "GIF"),
}
if readable("avif"):
    _WHOLE["modern.avif"] = lambda: saved(noise(200, 301), "AVIF")


def _halves() -> Iterator[Case]:
    for name, make in _WHOLE.items():
        yield Case(f"cut-{name}", partial(_half, make), DecodeError)
        yield Case(f"zeros-{name}", partial(_hollow, make), DecodeError)
        yield Case(f"head-{name}", partial(_head, make), DecodeError)


def _half(make: Callable[[], bytes]) -> bytes:
    return make()[: len(make()) // 2]


def _hollow(make: Callable[[], bytes]) -> bytes:
    return zeroed(make())


def _head(make: Callable[[], bytes]) -> bytes:
    return make()[:40]


CASES: tuple[Case, ...] = (
    *_halves(),
    # Not what they say.
    Case("empty.jpg", lambda: b"", DecodeError),
    Case("one-byte.png", lambda: b"\x89", DecodeError),
    Case("text.jpg", lambda: b"Dear all,\nthe beach was lovely.\n" * 30, DecodeError),
    Case("page.png", lambda: b"<!doctype html><title>404 Not Found</title>" * 9, DecodeError),
    Case("zeros.jpg", lambda: bytes(50_000), DecodeError),
    Case("random.webp", lambda: noise(80, 80).tobytes(), DecodeError),
    Case("document.jpg", lambda: b"%PDF-1.7\n%\xe2\xe3" + bytes(500), UnsupportedError),
    Case("archive.png", lambda: b"PK\x03\x04" + bytes(500), UnsupportedError),
    Case("postscript.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n" * 20, DecodeError),
    Case("vector.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 9, DecodeError),
    Case("really-a-png.jpg", _small_png, None),
    Case("really-a-jpeg.tiff", lambda: saved(scene(), "JPEG"), None),
    # Sizes that only a header can have.
    Case("giant.png", lambda: png(20_000, 20_000, inflating(MEGA)), TooLargeError),
    Case("billion.png", lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"")), TooLargeError),
    Case("nothing.png", lambda: png(0, 10, zlib.compress(b"")), DecodeError),
    Case("strip.png", lambda: png(30_000, 2, zlib.compress(bytes(180_002))), TooLargeError),
    Case("giant.jpg", lambda: _jpeg_of(65_500, 65_500), TooLargeError),
    Case("no-height.jpg", lambda: _jpeg_of(64, 0), DecodeError),
    Case("giant.tif", lambda: _tiff_with({256: (4, 1, 10**9), 257: (4, 1, 10**9)}), TooLargeError),
    Case("giant.webp", lambda: _webp_canvas(16_384, 16_384), TooLargeError),
    Case("giant.gif", lambda: _gif((65_535, 65_535), (1, 1), b"\x80\x00\x05\x04"), TooLargeError),
    Case("frame.gif", lambda: _gif((10, 10), (65_535, 65_535), b"\x80\x0a"), InputError),
    # Small files, many pixels within the limits on size: the memory decides.
    Case("bomb.png", lambda: png(12_000, 12_000, inflating(12_000 * 36_001)), TooLargeError),
    Case("bomb-16.png", lambda: png(8_000, 8_000, inflating(8_000 * 64_001), 16, 6), None),
    Case("bomb.tif", lambda: _tiff_bomb(12_000), TooLargeError),
    Case("bomb.webp", lambda: _webp_canvas(12_000, 12_000), TooLargeError),
    Case("canvas.webp", lambda: _webp_canvas(2_000, 1_000), None),
    Case("bomb.gif", lambda: saved(Image.new("P", (12_000, 12_000)), "GIF"), TooLargeError),
    # More pixels than announced.
    Case("overflow.png", lambda: png(100, 100, inflating(2_000 * MEGA)), None),
    Case("overflow.tif", lambda: _wrapped_tiff(100, 100, 8, inflating(500 * MEGA)), None),
    # Metadata.
    Case("profile-bomb.png",
         lambda: png_insert(_small_png(), b"iCCP", b"x\0\0" + inflating(1_000 * MEGA)), None),
    Case("text-bomb.png", _png_of_many_texts, None),
    Case("profile.jpg",
         lambda: _jpeg_with(b"ICC_PROFILE\0\x01\x01" + b"x" * 60_000, 600, 0xE2), TooLargeError),
    Case("comments.jpg", lambda: _jpeg_with(b"x" * 65_000, 600, 0xFE), TooLargeError),
    Case("exif-bomb.jpg", lambda: _jpeg_with(b"Exif\0\0" + exif_bomb(60_000)), TooLargeError),
    Case("exif-bomb.png", _png_exif_bomb, TooLargeError),
    Case("exif-bomb.tif", lambda: exif_bomb(MEGA), TooLargeError),
    Case("endless-author.jpg", lambda: saved(scene(), "JPEG", exif=exif_of(Artist="x" * 60_000)),
         None),
    # Structures that lead nowhere.
    Case("loop.tif", _tiff_loop, None),
    Case("quintillions.tif", _big_tiff_of_quintillions, DecodeError),
    Case("far-strip.tif", lambda: _tiff_with({273: (4, 1, 2**32 - 1)}), DecodeError),
    Case("long-strip.tif", lambda: _tiff_with({279: (4, 1, 2**32 - 1)}), None),
    Case("many-strips.tif", lambda: _tiff_with({273: (4, 2**28, 8)}), DecodeError),
    Case("no-samples.tif", lambda: _tiff_with({277: (3, 1, 0)}), DecodeError),
    Case("many-samples.tif", lambda: _tiff_with({277: (3, 1, 65_535)}), DecodeError),
    Case("chunks.png", lambda: _small_png()[:33] + png_chunk(b"teSt", b"") * 300_000
         + _small_png()[33:], None),
    Case("long-chunk.png", lambda: _small_png()[:33] + b"\xff\xff\xff\xfftEXt" + bytes(99),
         DecodeError),
    Case("fill-bytes.jpg", lambda: b"\xff\xd8" + b"\xff" * MEGA, DecodeError),
    Case("markers.jpg", lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * 300_000, DecodeError),
    Case("scans.jpg", _jpeg_of_many_scans, TooLargeError, endless=True),
    Case("own-length.webp", lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(99), DecodeError),
    Case("no-pixels.webp", lambda: riff((b"EXIF", bytes(99))), DecodeError),
    Case("no-end.gif", lambda: _gif((9, 9), (9, 9), bytes(999))[:-2], DecodeError),
    Case("box-of-nothing.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(8),
         InputError),
    Case("box-loop.avif", lambda: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif"
         + b"\0\0\0\x08free" * 90_000, InputError),
    *([Case("giant.avif", lambda: _avif_of(60_000, 60_000), InputError)]
      if readable("avif") else []),
)  # fmt: skip
"""Every case, by file name."""

assert len({case.name for case in CASES}) == len(CASES)
