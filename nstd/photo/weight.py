"""How much of a file is not pixels: metadata counted before any library parses it.

A few hundred bytes of EXIF can claim the same megabytes thousands of times over; a parser that
copies each claim runs out of memory. So what is *claimed* is counted, not what is there.
"""

from __future__ import annotations

from typing import Final, Literal

from nstd.photo import jpeg
from nstd.photo.png import chunks

Order = Literal["little", "big"]

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
                 13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
_POINTERS: Final = {0x8769, 0x8825, 0xA005}
"""Tags that lead to further directories: EXIF, GPS, interoperability."""
_PLACES: Final = {273, 279, 324, 325}
"""Where the pixels of a TIFF are: as many numbers as it has strips or tiles, rightly."""
_MOST_DIRECTORIES: Final = 32


def metadata_bytes(data: bytes, format_: str) -> int:
    """Count the bytes of metadata that ``data`` carries or claims; 0 where none can be told."""
    if format_ == "jpg":
        return _jpeg(data)
    if format_ == "png":
        return _png(data)
    if format_ == "webp":
        return _webp(data)
    return tiff_claims(data) if format_ == "tiff" else 0


def tiff_claims(data: bytes) -> int:
    """Count what the directories of a TIFF or EXIF block claim as values."""
    order: Order = "little" if data[:2] == b"II" else "big"
    big = int.from_bytes(data[2:4], order) == 43
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if big else (2, 12, 4)

    def number(at: int, length: int) -> int:
        return int.from_bytes(data[at : at + length], order)

    todo, seen, total = [number(offset_bytes, offset_bytes)], set[int](), 0
    while todo and len(seen) < _MOST_DIRECTORIES:
        at = todo.pop()
        if at in seen or not 0 < at < len(data):
            continue
        seen.add(at)
        first = at + count_bytes
        room = (len(data) - first) // entry_bytes
        for entry in range(
            first, first + min(number(at, count_bytes), room) * entry_bytes, entry_bytes
        ):
            tag, kind = number(entry, 2), number(entry + 2, 2)
            claimed = _SIZES.get(kind, 1) * number(entry + 4, offset_bytes)
            if claimed > offset_bytes and tag not in _PLACES:
                total += min(claimed, len(data))
            if tag in _POINTERS:
                todo.append(number(entry + 4 + offset_bytes, offset_bytes))
    return total


def _exif_claims(block: bytes) -> int:
    return tiff_claims(block.removeprefix(b"Exif\0\0"))


def _jpeg(data: bytes) -> int:
    total = 0
    for marker, start, end in jpeg.segments(data):
        if marker == jpeg.SOS:
            break
        if marker in jpeg.TEXTS:
            total += end - start
            if data.startswith(b"Exif\0\0", start):
                total += _exif_claims(data[start:end])
    return total


def _png(data: bytes) -> int:
    total = 0
    for kind, start, length in chunks(data):
        if kind not in {b"IDAT", b"fdAT"}:
            total += min(length, len(data))
        if kind == b"eXIf":
            total += _exif_claims(data[start : start + length])
    return total


def _webp(data: bytes) -> int:
    at, total = 12, 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4]
        if kind in {b"EXIF", b"XMP ", b"ICCP"}:
            total += min(length, len(data))
        if kind == b"EXIF":
            total += _exif_claims(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return total
