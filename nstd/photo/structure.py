"""Is the whole file there? A walk through the bytes of each format, without decoding.

Decoders are too kind: a baseline JPEG, a WebP or an uncompressed TIFF whose second half is zeros
(a copy that was interrupted after the size was set) decodes without a word. Each walker returns
what is wrong as the end of a sentence about the file, or None.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from nstd.photo import jpeg
from nstd.photo.png import chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

ENDS_EARLY: Final = "it ends in the middle of the picture"
HOLLOW: Final = "a part of it is missing and filled with zeros"
CORRUPT: Final = "its contents make no sense"

HOLE: Final = 4096
"""Zeros in a row that no encoder writes into compressed data: one page, the unit of copying."""


def fault(data: bytes, format_: str) -> str | None:
    """Return why ``data`` cannot be a whole file of ``format_``, None where it may be one."""
    walker = _WALKERS.get(format_)
    return walker(data) if walker is not None else None


def jpeg_fault(data: bytes) -> str | None:
    """Walk the segments and scans of a JPEG up to its end marker; what follows is a trailer."""
    sequential, zeros_are_flat, end = False, False, 2
    for marker, start, end in jpeg.segments(data):
        if marker == jpeg.EOI:
            return None
        if marker in jpeg.FRAMES:
            sequential = marker in jpeg.SEQUENTIAL
        elif marker == jpeg.DHT:
            zeros_are_flat |= jpeg.zeros_mean_flat(data[start:end])
        elif marker == jpeg.SOS and sequential and not zeros_are_flat and _hole(data, start, end):
            return HOLLOW
    if end >= len(data):
        return HOLLOW if data.endswith(bytes(64)) else ENDS_EARLY
    return CORRUPT if any(data[end : end + HOLE]) else HOLLOW


def _hole(data: bytes, start: int, end: int) -> bool:
    return data.find(bytes(HOLE), start, end) >= 0


def png_fault(data: bytes) -> str | None:
    """Walk the chunks of a PNG up to IEND and verify the checksums of those with pixels."""
    view = memoryview(data)
    for kind, start, length in chunks(data):
        if start + length + 4 > len(data):
            return ENDS_EARLY
        if kind == b"IEND":
            return None
        if not kind.isalpha():
            return HOLLOW if not any(kind) else CORRUPT
        if kind in {b"IHDR", b"PLTE", b"IDAT"}:
            stated = int.from_bytes(data[start + length : start + length + 4], "big")
            if zlib.crc32(view[start - 4 : start + length]) != stated:
                hole = data.find(bytes(64), start, start + length + 4) >= 0 and not stated
                return HOLLOW if hole else CORRUPT
    return ENDS_EARLY


def webp_fault(data: bytes) -> str | None:
    """Check RIFF's stated length, the chunks within it, and the pixels' chunks for zeros."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        return ENDS_EARLY
    at = 12
    while at + 8 <= end:
        kind = data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > end:
            return ENDS_EARLY
        if not any(kind):
            return HOLLOW
        if kind == b"VP8L" and length > HOLE and not any(data[at + 8 : at + 8 + length][-1024:]):
            return HOLLOW  # VP8's zeros may be a flat area: see `nstd.photo.hollow`
        at += 8 + length + length % 2
    return None


def gif_fault(data: bytes) -> str | None:
    """Walk the blocks of a GIF up to its trailer."""
    at = 13 + _gif_table(data[10:11])
    while at < len(data):
        introducer = data[at]
        if introducer == 0x3B:
            return None
        if introducer == 0x21:
            at += 2
        elif introducer == 0x2C:
            at += 11 + _gif_table(data[at + 9 : at + 10])
        else:
            return HOLLOW if introducer == 0 else CORRUPT
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return ENDS_EARLY


def _gif_table(packed: bytes) -> int:
    return 3 << ((packed[0] & 7) + 1) if packed and packed[0] & 0x80 else 0


def bmff_fault(data: bytes) -> str | None:
    """Check that the top-level boxes of a HEIF or AVIF lie within the file and carry something.

    Behind the two that make a picture phones append what they like.
    """
    at, seen = 0, set[bytes]()
    while at + 8 <= len(data) and not (b"mdat" in seen and seen & {b"meta", b"moov"}):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        elif length == 0 and any(kind):
            length = len(data) - at  # "up to the end of the file"
        if length < 8:
            return CORRUPT if any(kind) else HOLLOW
        if at + length > len(data):
            return ENDS_EARLY
        if kind == b"mdat" and length > HOLE and not any(data[at + length - 1024 : at + length]):
            return HOLLOW
        seen.add(kind)
        at += length
    return None if b"mdat" in seen else ENDS_EARLY


def tiff_fault(data: bytes) -> str | None:
    """Check that the first directory of a TIFF is there; its strips are the decoder's matter."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\0", b"\0+"}
    first, size = (8, 8) if big else (4, 4)
    at = int.from_bytes(data[first : first + size], order)
    if at + 2 > len(data):
        return ENDS_EARLY
    return None if any(data[at : at + 8]) else HOLLOW


_WALKERS: Final[dict[str, Callable[[bytes], str | None]]] = {
    "jpg": jpeg_fault,
    "png": png_fault,
    "webp": webp_fault,
    "gif": gif_fault,
    "tiff": tiff_fault,
    "heif": bmff_fault,
    "avif": bmff_fault,
}
