"""Only the chunks of a PNG that a painting needs.

Pillow's reader refuses a whole picture for a broken or swollen text or profile, and inflates every
compressed text on the way; so the rest is left out before it sees the file.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_CRITICAL: Final = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM"}
_SMALL: Final = {b"tEXt", b"eXIf"}
_LARGEST_SMALL: Final = 2**20
_PILLOW_PROFILE: Final = 2**20
"""Pillow inflates profiles up to its SAFEBLOCK and raises beyond it."""


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of contents, length) of each chunk whose header is there."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, length
        at += 12 + length


def essential(data: bytes, max_profile_bytes: int) -> bytes:
    """Return the PNG without animation, swollen texts, broken profiles and unknown chunks."""
    limit = min(max_profile_bytes, _PILLOW_PROFILE)
    parts, whole, after_end = [data[:8]], True, len(data)
    for kind, start, length in chunks(data):
        end = start + length + 4
        if _wanted(kind, data, start, length, limit):
            parts.append(data[start - 8 : end])
        else:
            whole = False
        if kind == b"IEND":
            after_end = end
            break
    return data[:after_end] if whole else b"".join(parts)


def _wanted(kind: bytes, data: bytes, start: int, length: int, limit: int) -> bool:
    if kind in _CRITICAL:
        return True
    if kind in _SMALL:
        return length <= _LARGEST_SMALL and _checksum_is_right(data, start, length)
    if kind == b"iCCP":
        contents = data[start : start + length]
        return _checksum_is_right(data, start, length) and _inflates(contents, limit)
    return False


def _checksum_is_right(data: bytes, start: int, length: int) -> bool:
    stated = int.from_bytes(data[start + length : start + length + 4], "big")
    return zlib.crc32(data[start - 4 : start + length]) == stated


def _inflates(contents: bytes, limit: int) -> bool:
    """Whether an iCCP chunk (name, 0, method, zlib stream) holds a profile within the limit."""
    _, _, packed = contents.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], limit)
    except zlib.error:
        return False
    return inflater.eof and bool(profile)
