"""Write a TIFF: strips compressed with deflate, profile, and an EXIF block whole.

libtiff, which Pillow needs for compression, refuses EXIF and GPS directories; so the few dozen
bytes around the strips are put together here (TIFF 6.0, sections 2, 8, 14, 18).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from nstd.photo.resize import Pixels

_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_FORMATS: Final = {_SHORT: "H", _LONG: "I"}
_STRIP_BYTES: Final = 256 * 1024
"""A strip is what readers decode at once."""
_ADOBE_DEFLATE: Final = 8
_HORIZONTAL: Final = 2


def write(pixels: Pixels, alpha: Pixels | None, profile: bytes, exif: bytes) -> bytes:
    """Return a TIFF of (H, W, 3) ``pixels``, with (H, W) ``alpha`` unassociated where given.

    ``exif`` is an EXIF block ("Exif", two zeros, a TIFF) or nothing. The file begins with that
    TIFF: its directories keep their offsets, and its entries go into the picture's own.
    """
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    start = exif.removeprefix(b"Exif\0\0") or b"MM\0*\0\0\0\0"
    order = "<" if start[:2] == b"II" else ">"
    parts = [start + bytes(len(start) % 2)]
    rows = max(1, _STRIP_BYTES // (samples.shape[1] * samples.shape[2]))
    strips = [_strip(samples[top : top + rows]) for top in range(0, len(samples), rows)]
    offsets, at = [], len(parts[0])
    for strip in strips:
        offsets.append(at)
        parts.append(strip)
        at += len(strip)
    entries = _Entries(order, at)
    height, width, channels = samples.shape
    entries.add(256, _LONG, [width])
    entries.add(257, _LONG, [height])
    entries.add(258, _SHORT, [8] * channels)
    entries.add(259, _SHORT, [_ADOBE_DEFLATE])
    entries.add(262, _SHORT, [2])  # RGB
    entries.add(273, _LONG, offsets)
    entries.add(277, _SHORT, [channels])
    entries.add(278, _LONG, [rows])
    entries.add(279, _LONG, [len(strip) for strip in strips])
    entries.add(317, _SHORT, [_HORIZONTAL])
    if alpha is not None:
        entries.add(338, _SHORT, [2])  # not premultiplied
    entries.add_bytes(34675, profile)
    entries.adopt(start)
    return entries.finish(parts)


def _strip(samples: Pixels) -> bytes:
    """Compress (h, W, C) rows as differences to the pixel on the left."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]  # modulo 256, as the format wants it
    data = zlib.compress(differences.tobytes(), 6)
    return data + bytes(len(data) % 2)


class _Entries:
    """A directory in the making, and the values that do not fit into its entries."""

    def __init__(self, order: str, at: int) -> None:
        self._order = order
        self._values = b""
        self._at = at
        self._entries: dict[int, bytes] = {}

    def add(self, tag: int, kind: int, numbers: list[int]) -> None:
        packed = struct.pack(f"{self._order}{len(numbers)}{_FORMATS[kind]}", *numbers)
        self._put(tag, kind, len(numbers), packed)

    def add_bytes(self, tag: int, contents: bytes) -> None:
        self._put(tag, _UNDEFINED, len(contents), contents)

    def _put(self, tag: int, kind: int, count: int, packed: bytes) -> None:
        if len(packed) > 4:
            offset = self._at + len(self._values)
            self._values += packed + bytes(len(packed) % 2)
            packed = struct.pack(f"{self._order}I", offset)
        head = struct.pack(f"{self._order}HHI", tag, kind, count)
        self._entries[tag] = head + packed.ljust(4, b"\0")

    def adopt(self, tiff: bytes) -> None:
        """Take over the entries of the first directory of ``tiff``, which opens the file."""
        (first,) = struct.unpack_from(f"{self._order}I", tiff, 4)
        if not first:
            return
        (count,) = struct.unpack_from(f"{self._order}H", tiff, first)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            (tag,) = struct.unpack_from(f"{self._order}H", tiff, at)
            self._entries.setdefault(tag, tiff[at : at + 12])

    def finish(self, parts: list[bytes]) -> bytes:
        """Return the file: what there is, the values, the directory, and the way to it."""
        directory = struct.pack(f"{self._order}H", len(self._entries))
        directory += b"".join(self._entries[tag] for tag in sorted(self._entries)) + bytes(4)
        data = bytearray(b"".join([*parts, self._values, directory]))
        struct.pack_into(f"{self._order}I", data, 4, self._at + len(self._values))
        return bytes(data)
