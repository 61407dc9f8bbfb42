"""What a file claims to be: its header held against the limits, before any pixel is decoded."""

from __future__ import annotations

import io
import mmap
import struct
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from nstd.errors import DecodeError, TooLargeError, UnsupportedError
from nstd.photo.formats import HEAD_BYTES, HEIF_REMEDY, READABLE, readable, sniff, stranger
from nstd.photo.weight import metadata_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nstd.photo.limits import Limits

AGAIN = "Export or copy it again."
"""The remedy for a damaged file."""


@dataclass(frozen=True)
class Header:
    """What the header of a picture says, before anything of it is decoded."""

    format: str
    width: int
    height: int
    mode: str
    """Pillow's name of the pixels: RGB, P, CMYK, I;16, ..."""


def probe(data: bytes, *, limits: Limits, name: str = "the picture") -> Header:
    """Return what the header of ``data`` says, once it is known to keep the limits.

    ``name`` goes into messages. Raises DecodeError, TooLargeError or UnsupportedError.
    """
    with opened(data, limits=limits, name=name) as (format_, image):
        return Header(format_, *image.size, image.mode)


def kind_of(data: bytes, name: str) -> str:
    """Return the readable format of ``data``, or raise what it is instead."""
    if not data:
        raise DecodeError(f'"{name}" is empty: it has no bytes at all.', AGAIN)
    head = data[:HEAD_BYTES]
    format_ = sniff(head)
    if format_ is None:
        what = stranger(head)
        if what.startswith("nothing"):
            raise DecodeError(f'"{name}" is not a picture: it holds {what}.', AGAIN)
        kind = DecodeError if what == "text" else UnsupportedError
        raise kind(f'"{name}" is not a picture that nstd reads: it holds {what}.',
                   "Export it as JPEG, PNG or TIFF.")  # fmt: skip
    if not readable(format_):
        raise UnsupportedError(
            f'"{name}" is {READABLE[format_].label} picture, which this installation cannot read.',
            HEIF_REMEDY if format_ == "heif" else "Export it as JPEG, PNG or TIFF.",
        )
    return format_


@contextmanager
def opened(data: bytes, *, limits: Limits, name: str) -> Iterator[tuple[str, Image.Image]]:
    """Open ``data`` with the one reader of its format and check every limit; nothing is decoded.

    Whatever the reader raises, here or inside the block, becomes a DecodeError or TooLargeError.
    """
    check_bytes(len(data), limits, name)
    format_ = kind_of(data, name)
    weight = metadata_bytes(data, format_)
    if weight > limits.max_metadata_bytes:
        raise TooLargeError(
            f'"{name}" carries {_mib(weight)} of metadata; {_mib(limits.max_metadata_bytes)} are'
            " accepted.",
            "Export it again without metadata.",
        )
    size = (1, 1)
    if format_ == "webp":
        # Its reader allocates the canvas when it opens, so the size is looked up before.
        size = webp_size(data)
        check_size(*size, limits, name)
    if format_ == "heif":
        _register_heif()
    try:
        reader = (READABLE[format_].pillow,)
        with _own_bomb_check(), Image.open(io.BytesIO(data), formats=reader) as image:
            size = image.size
            check_size(*size, limits, name)
            yield format_, image
    except (DecodeError, TooLargeError, UnsupportedError):
        raise
    except MemoryError as error:
        raise too_much_memory(name) from error
    except Exception as error:
        # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, KeyError,
        # IndexError, TypeError, OverflowError, zlib.error, ... on damaged files.
        if _memory_is_short(size):
            raise too_much_memory(name) from error
        raise _refusal(name, error) from error


def check_bytes(size: int, limits: Limits, name: str) -> None:
    """Raise TooLargeError where a file of ``size`` bytes exceeds the limit."""
    if size > limits.max_bytes:
        raise TooLargeError(
            f'"{name}" has {_mib(size)}; {_mib(limits.max_bytes)} are accepted.',
            "Export it smaller, or raise inbox.max_file_bytes.",
        )


def check_size(width: int, height: int, limits: Limits, name: str) -> None:
    """Raise TooLargeError or DecodeError where a picture's size exceeds the limits."""
    measured = f'"{name}" measures {width} x {height} pixels'
    if width < 1 or height < 1:
        raise DecodeError(f"{measured}, which is nothing.", AGAIN)
    if max(width, height) > limits.max_side:
        raise TooLargeError(
            f"{measured}; {limits.max_side} a side are accepted.",
            "Make it smaller, or raise inbox.max_side.",
        )
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"{measured}, {width * height / 1e6:.0f} megapixels;"
            f" {limits.max_pixels / 1e6:.0f} are accepted.",
            "Make it smaller, or raise inbox.max_pixels.",
        )
    if max(width, height) > limits.max_ratio * min(width, height):
        raise TooLargeError(
            f"{measured}; the long side may be at most {limits.max_ratio:g} times the short one.",
            "Crop it.",
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size} bytes"


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk of a WebP, (0, 0) where it is nonsense."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _register_heif() -> None:
    import pillow_heif  # noqa: PLC0415  # an optional extra

    pillow_heif.register_heif_opener()


@contextmanager
def _own_bomb_check() -> Iterator[None]:
    """Our limits instead of Pillow's, and its warnings about odd files kept from the user."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _memory_is_short(size: tuple[int, int]) -> bool:
    """Whether there is no room for two copies of the picture, as its reader may have found.

    Not every library says so: some only say that they failed.
    """
    try:
        mmap.mmap(-1, max(1, 8 * size[0] * size[1])).close()  # address space only
    except (OSError, OverflowError, MemoryError):
        return True
    return False


def too_much_memory(name: str) -> TooLargeError:
    """Return the error for a picture that does not fit into the memory for decoding."""
    return TooLargeError(
        f'"{name}" needs more memory to decode than it may have.',
        "Make it smaller, or raise worker.decode_memory_bytes.",
    )


def _refusal(name: str, error: Exception) -> DecodeError:
    """Put what a reader raised into words that help a person."""
    words = str(error).lower()
    if "truncated" in words or "not enough" in words or isinstance(error, EOFError):
        return DecodeError(f'"{name}" is damaged: it ends in the middle of the picture.', AGAIN)
    if isinstance(error, UnidentifiedImageError):
        # Its reader did not even begin: nonsense, or something exotic like 32-bit colours.
        return DecodeError(
            f'"{name}" is damaged, or a rare kind of picture that nstd cannot read.',
            "Export it again, as JPEG or PNG.",
        )
    return DecodeError(f'"{name}" is damaged: its contents make no sense.', AGAIN)
