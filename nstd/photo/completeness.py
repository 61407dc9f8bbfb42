"""Has a file's end arrived? A look at a few KiB of it, for the inbox.

This only decides how long to wait: a missing end lengthens the wait, and after that the full
decode has the last word. So it never raises, and where it knows nothing it says "complete".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nstd.photo.formats import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from collections.abc import Callable

_TAIL: Final = 64 * 1024
"""How much of the end is read: enough for the trailers that phones append."""
_ZEROS: Final = 64
"""So many zeros at the very end are a file that was made long before it was filled."""
_MOST_STEPS: Final = 4096
"""Bound on segments, chunks, boxes: a hostile file may have millions."""
_LONGEST_HEADER: Final = 256 * 1024
_FILM_LENGTH: Final = re.compile(rb"MicroVideoOffset=[\"'](\d{1,12})|Item:Length=[\"'](\d{1,12})")


@dataclass(frozen=True)
class Completeness:
    """Whether a file's end is there, and if not, why it seems not to be."""

    complete: bool
    why: str = ""


_COMPLETE: Final = Completeness(complete=True)


class _File:
    """Bounded random access: an open descriptor, or bytes in memory."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer at the end, none outside."""
        if not 0 <= offset < self.size:
            return b""
        return os.pread(self._fd, min(count, self.size - offset), offset)

    def number(self, offset: int, count: int, order: str = "big") -> int:
        """Unsigned integer at ``offset``."""
        return int.from_bytes(self.at(offset, count), "big" if order == "big" else "little")


def completeness(fd: int, size: int, name: str = "") -> Completeness:
    """Say whether the regular file ``fd`` of ``size`` bytes seems to be all there.

    ``name`` is not consulted, since extensions lie. Reads some tens of KiB with pread: the
    descriptor's position stays. A file that cannot be read counts as incomplete, with the reason.
    """
    del name
    try:
        return _judge(_File(fd, size))
    except OSError as error:
        return Completeness(complete=False, why=f"it cannot be read ({error.strerror})")


def _judge(file: _File) -> Completeness:
    if file.size <= 0:
        return Completeness(complete=False, why="it is empty so far")
    head = file.at(0, HEAD_BYTES)
    if not any(head):
        return Completeness(complete=False, why="it begins with zeros so far")
    check = _CHECKS.get(sniff(head) or "")
    if check is None:
        return _COMPLETE
    why = check(file)
    return _COMPLETE if why is None else Completeness(complete=False, why=why)


def _zero_tail(file: _File) -> bool:
    return file.size > _ZEROS and not any(file.at(file.size - _ZEROS, _ZEROS))


_NO_END: Final = "its end has not arrived yet"
_ZERO_END: Final = "it ends in zeros so far"


def _jpeg(file: _File) -> str | None:
    """Find the scan, then an end marker behind it, with whatever trailer a phone appends."""
    scan = _jpeg_scan(file)
    if scan is None:
        return _NO_END
    if file.at(file.size - 2, 2) == b"\xff\xd9" or file.at(file.size - 4, 4) == b"SEFT":
        return None  # an end marker, or the end of Samsung's trailer
    start = max(scan, file.size - _TAIL)
    tail = file.at(start, _TAIL)
    # In a scan each FF is followed by 00 or a restart, so FFD9 is an end wherever it stands.
    if b"\xff\xd9" in tail or _motion_photo(file, scan):
        return None
    return _ZERO_END if _zero_tail(file) else _NO_END


def _jpeg_scan(file: _File) -> int | None:
    """Offset of the first entropy-coded byte, None where the header itself is cut."""
    at = 2
    for _ in range(_MOST_STEPS):
        head = file.at(at, 4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        if head[1] == 0xFF or head[1] == 0x01 or 0xD0 <= head[1] <= 0xD8:
            at += 1 if head[1] == 0xFF else 2
            continue
        at += 2 + max(2, int.from_bytes(head[2:], "big"))
        if head[1] == 0xDA:
            return at if at < file.size else None
    return None


def _motion_photo(file: _File, scan: int) -> bool:
    """Whether the film that the picture's XMP announces behind it is there, whole.

    Google's Motion Photo format 1.0 and its predecessor Micro Video give its length from the end.
    """
    header = file.at(0, min(scan, _LONGEST_HEADER))
    for found in _FILM_LENGTH.finditer(header):
        start = file.size - int(found[1] or found[2])
        if start > scan and file.at(start + 4, 4) == b"ftyp":
            return _boxes_fault(file, start) is None
    return False


def _png(file: _File) -> str | None:
    tail = file.at(max(0, file.size - _TAIL), _TAIL)
    if b"IEND\xaeB`\x82" in tail:
        return None
    return _ZERO_END if _zero_tail(file) else _NO_END


def _webp(file: _File) -> str | None:
    if 8 + file.number(4, 4, "little") > file.size:
        return _NO_END
    return _ZERO_END if _zero_tail(file) else None


def _gif(file: _File) -> str | None:
    tail = file.at(max(0, file.size - 1024), 1024)
    if tail.rstrip(b"\0")[-1:] == b"\x3b" and (tail[-1:] == b"\x3b" or b"\0\x3b\0" in tail):
        return None
    return _ZERO_END if _zero_tail(file) else _NO_END


def _boxes(file: _File) -> str | None:
    return _boxes_fault(file, 0) or (_ZERO_END if _zero_tail(file) else None)


def _boxes_fault(file: _File, at: int) -> str | None:
    for _ in range(_MOST_STEPS):
        if at + 8 > file.size:
            return None if at == file.size else _NO_END
        length = file.number(at, 4)
        if length == 1:
            length = file.number(at + 8, 8)
        if length < 8 or not file.at(at + 4, 4).strip(b"\0"):
            # Zero means "up to the end of the file", and whether that is there nobody can say.
            return None if length == 0 and any(file.at(at + 4, 4)) else _ZERO_END
        at += length
        if at > file.size:
            return _NO_END
    return None


def _tiff(file: _File) -> str | None:
    """Follow the chain of directories; every entry's data must lie inside the file."""
    order = "little" if file.at(0, 2) == b"II" else "big"
    # Where the first offset stands, and the sizes of counts, entries and offsets: BigTIFF, TIFF.
    layout = (8, 8, 20, 8) if file.number(2, 2, order) == 43 else (4, 2, 12, 4)
    first_at, count_bytes, entry_bytes, offset_bytes = layout
    at, seen = file.number(first_at, offset_bytes, order), set[int]()
    if at == 0:
        return _ZERO_END
    while at and at not in seen and len(seen) < 64:
        seen.add(at)
        count = file.number(at, count_bytes, order)
        end = at + count_bytes + count * entry_bytes
        if count == 0 or end + offset_bytes > file.size:
            return _NO_END
        entries = file.at(at + count_bytes, min(count, _MOST_STEPS) * entry_bytes)
        if not _strips_inside(file, entries, layout, order):
            return _NO_END
        at = file.number(end, offset_bytes, order)
    return _ZERO_END if _zero_tail(file) else None


_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
                      13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip


def _strips_inside(
    file: _File, entries: bytes, layout: tuple[int, int, int, int], order: str
) -> bool:
    """Whether the last strip or tile and every tag's data lie inside the file."""
    _, _, entry_bytes, offset_bytes = layout
    endian: str = order
    last: dict[int, int] = {}
    for start in range(0, len(entries) - entry_bytes + 1, entry_bytes):
        entry = entries[start : start + entry_bytes]
        tag, kind = _int(entry[0:2], endian), _int(entry[2:4], endian)
        count = _int(entry[4 : 4 + offset_bytes], endian)
        width = _TIFF_SIZES.get(kind, 1)
        value = entry[4 + offset_bytes :]
        if width * count > offset_bytes:
            offset = _int(value, endian)
            if offset + width * count > file.size:
                return False
            value = file.at(offset + width * (count - 1), width)
        else:
            value = value[width * (count - 1) : width * count] if count else b""
        if tag in {273, 279, 324, 325}:
            last[tag] = _int(value, endian)
    return (
        last.get(273, 0) + last.get(279, 0) <= file.size
        and last.get(324, 0) + last.get(325, 0) <= file.size
    )


def _int(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "little" else "big")


_CHECKS: Final[dict[str, Callable[[_File], str | None]]] = {
    "jpg": _jpeg,
    "png": _png,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "heif": _boxes,
    "avif": _boxes,
}
