"""How large a picture is, upright, by its first bytes: for who needs a guess and no library.

A hint, not a promise: decoding alone knows. What is not told plainly is None.
"""

from __future__ import annotations

import struct

from nstd.photo import jpeg, png

HEAD_BYTES = 256 * 1024
"""Cameras put a preview before the frame's header, but not a larger one than this."""
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})
"""Orientations in which width and height change places."""


def upright_size(path: str) -> tuple[int, int] | None:
    """Return (height, width) of a JPEG or PNG as it is to be seen, None where it is not told."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(head)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _of_png(head)
    return None


def _of_png(head: bytes) -> tuple[int, int] | None:
    for kind, start, length in png.chunks(head):
        if kind == b"IHDR" and length == 13 and start + 8 <= len(head):
            width, height = struct.unpack_from(">II", head, start)
            return _sane(height, width)
    return None


def _of_jpeg(head: bytes) -> tuple[int, int] | None:
    turned = False
    for marker, start, end in jpeg.segments(head):
        contents = head[start:end]
        if marker == 0xE1 and contents.startswith(b"Exif\0\0"):
            turned = _orientation(contents[6:]) in _TURNED
        if marker in jpeg.FRAMES and len(contents) >= 5:
            height, width = struct.unpack_from(">HH", contents, 1)
            return _sane(width, height) if turned else _sane(height, width)
        if marker == jpeg.SOS:
            return None
    return None


def _sane(height: int, width: int) -> tuple[int, int] | None:
    return (height, width) if height and width else None


def _orientation(tiff: bytes) -> int:
    """Return the EXIF orientation, 1 where it is not there: TIFF 6.0, section 2."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    if at + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _kind, _count, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION:
            return int(value)
    return 1
