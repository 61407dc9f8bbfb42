"""Pictures made by code, for the tests of photo."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from nstd.photo.decode import Photo, decode
from nstd.photo.formats import readable
from nstd.photo.limits import Limits

LIMITS = Limits()

needs_avif = pytest.mark.skipif(not readable("avif"), reason="needs a Pillow with AVIF")
needs_heif = pytest.mark.skipif(not readable("heif"), reason="needs the extra nstd[heif]")

Array = npt.NDArray[np.uint8]


def scene(height: int = 48, width: int = 64) -> Array:
    """Return smooth colours with an asymmetric corner mark: each turn of it looks different."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.stack(
        [
            80 + 150 * columns / max(1, width - 1),
            200 - 120 * rows / max(1, height - 1),
            120 + 60 * np.sin(7 * rows / height) * np.cos(7 * columns / width),
        ],
        axis=-1,
    )
    result: Array = np.rint(pixels).astype(np.uint8)
    result[: height // 4, : width // 8] = (250, 20, 20)
    return result


def noise(height: int, width: int, seed: int = 0) -> Array:
    """Return random colours: what compresses worst."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image: Image.Image | Array, format_: str, **options: Any) -> bytes:
    """Return the file that Pillow writes."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    if format_ == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif_of(**tags: Any) -> bytes:
    """Return an EXIF block, e.g. ``Orientation=6``."""
    from PIL.ExifTags import Base

    exif = Image.Exif()
    for name, value in tags.items():
        exif[Base[name]] = value
    return exif.tobytes()


def png_chunk(kind: bytes, contents: bytes) -> bytes:
    """Return one chunk with a right checksum."""
    checksum = zlib.crc32(kind + contents)
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", checksum)


def png_insert(png: bytes, kind: bytes, contents: bytes) -> bytes:
    """Return ``png`` with a chunk right behind its header."""
    return png[:33] + png_chunk(kind, contents) + png[33:]


def png_16(samples: npt.NDArray[np.uint16]) -> bytes:
    """Return a 16-bit PNG of (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""
    height, width = samples.shape[:2]
    colour = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(samples.shape[-1], 0)}[samples.ndim]
    rows = samples.astype(">u2").reshape(height, -1)
    packed = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(packed))
        + png_chunk(b"IEND", b"")
    )


def tiff(samples: npt.NDArray[Any], *, order: str = "<", extra: int | None = None) -> bytes:
    """Return an uncompressed TIFF of (H, W) or (H, W, C) samples, directory first."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    bits = samples.dtype.itemsize * 8
    data = samples.astype(samples.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    tags: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits] * channels),
        (259, 3, [1]),
        (262, 3, [1 if channels < 3 else 2]),
        (273, 4, [0]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(data)]),
        (339, 3, [kind] * channels),
    ]
    if extra is not None:
        tags.append((338, 3, [extra]))
        tags.sort()
    return _tiff_bytes(tags, data, order)


def _tiff_bytes(tags: list[tuple[int, int, list[int]]], data: bytes, order: str) -> bytes:
    sizes = {3: "H", 4: "I"}
    first = 8 + 2 + 12 * len(tags) + 4
    room = sum(2 * len(values) for _, kind, values in tags if kind == 3 and len(values) > 2)
    body, outside = b"", b""
    for tag, kind, values in tags:
        numbers = [first + room] if tag == 273 else values
        packed = b"".join(struct.pack(order + sizes[kind], number) for number in numbers)
        if len(packed) > 4:
            packed, outside = struct.pack(order + "I", first + len(outside)), outside + packed
        body += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(tags)) + body + bytes(4) + outside + data


def zeroed(data: bytes, keep: float = 0.5) -> bytes:
    """Return ``data`` at its full size with everything from ``keep`` of it on zero."""
    kept = int(len(data) * keep)
    return data[:kept] + bytes(len(data) - kept)


def profile(kind: str) -> bytes:
    """Return an ICC profile: ``swapped`` shows how far it was followed, ``grey``, ``srgb``."""
    if kind == "srgb":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return _matrix_profile() if kind == "swapped" else _grey_profile()


def _tag_table(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, contents in tags.items():
        padded = contents + bytes(-len(contents) % 4)
        table += name + struct.pack(">II", at + len(body), len(contents))
        body += padded
    size = 128 + len(table) + len(body)
    header = (
        struct.pack(">I", size) + b"lcms" + bytes.fromhex("02400000") + b"mntr" + space + b"XYZ "
    )
    header += bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">iii", 63190, 65536, 54061)  # D50
    return header.ljust(128, b"\0") + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65536) for value in (x, y, z)))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _text(words: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + bytes(79)


_RED, _GREEN, _BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def _matrix_profile() -> bytes:
    """SRGB's primaries with red and blue exchanged: red pixels come out blue."""
    return _tag_table(
        b"RGB ",
        {
            b"desc": _text(b"Swapped"),
            b"wtpt": _xyz(0.9642, 1.0, 0.8249),
            b"rXYZ": _xyz(*_BLUE),
            b"gXYZ": _xyz(*_GREEN),
            b"bXYZ": _xyz(*_RED),
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(2.2)),
        },
    )


def _grey_profile() -> bytes:
    """Linear grey: middle values come out lighter."""
    return _tag_table(
        b"GRAY",
        {b"desc": _text(b"Linear grey"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": _curve(1.0)},
    )


RAMP_16 = np.linspace(0, 65535, 48 * 64).reshape(48, 64).round().astype(np.uint16)
"""Every second grey or so of 16 bits."""
RAMP_8 = np.rint(RAMP_16 / 257.0).astype(np.uint8)
UPRIGHT = scene()


def read(data: bytes, **options: Any) -> Photo:
    """Decode with the usual limits, under the name that messages are to show."""
    return decode(data, limits=LIMITS, name="beach.jpg", **options)


def near(left: Any, right: Any, *, within: float) -> bool:
    """Whether two pictures differ by so much on average at most."""
    return float(np.abs(np.asarray(left, float) - np.asarray(right, float)).mean()) <= within
