"""Which kinds of files there are, told by their first bytes; which of them can be read here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Final

from PIL import features

HEAD_BYTES: Final = 64
"""How many first bytes `sniff` wants to see."""


@dataclass(frozen=True)
class Format:
    """One kind of picture that nstd reads: our word for it and Pillow's."""

    name: str
    pillow: str
    label: str
    """What people call it, with its article: goes into sentences."""


READABLE: Final = {
    format_.name: format_
    for format_ in (
        Format("jpg", "JPEG", "a JPEG"),
        Format("png", "PNG", "a PNG"),
        Format("webp", "WEBP", "a WebP"),
        Format("tiff", "TIFF", "a TIFF"),
        Format("gif", "GIF", "a GIF"),
        Format("heif", "HEIF", "a HEIF"),
        Format("avif", "AVIF", "an AVIF"),
    )
}
"""Formats that are decoded, the last two only where their library is there."""

_HEIF_BRANDS: Final = {
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
}  # fmt: skip
_AVIF_BRANDS: Final = {b"avif", b"avis"}

_MAGIC: Final = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)

_STRANGERS: Final = (
    (b"8BPS", "a Photoshop document"),
    (b"BM", "a Windows bitmap"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"FUJIFILMCCD-RAW", "a camera RAW file"),
    (b"IIU\0", "a camera RAW file"),
    (b"IIRO", "a camera RAW file"),
    (b"\x1aE\xdf\xa3", "a film"),
)


def sniff(head: bytes) -> str | None:
    """Return the format whose first bytes these are, one of `READABLE`'s keys, or None."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            # Canon's RAW files are TIFFs whose first picture is a thumbnail.
            return None if name == "tiff" and head[8:10] == b"CR" else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _sniff_ftyp(head)
    return None


def _sniff_ftyp(head: bytes) -> str | None:
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    # "mif1" alone says only "some still picture": the compatible brands name the codec.
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "avif"
        if brand in _HEIF_BRANDS:
            return "heif"
    return "heif" if brands[0] in {b"mif1", b"msf1"} else None


def stranger(head: bytes) -> str:
    """Say in words what a file is that no reader here takes."""
    if head[:4] in {b"II*\0", b"MM\0*"}:
        return "a camera RAW file"
    for magic, words in _STRANGERS:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a film"
    if not head.strip(b"\0"):
        return "nothing but zeros"
    return "text" if _looks_like_text(head) else "nothing that is known here"


def _looks_like_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end in the middle of a character.
        if not len(head) - 3 <= error.start > 0:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)


@cache
def readable(name: str) -> bool:
    """Whether this installation can decode the format ``name``."""
    if name == "heif":
        return importlib.util.find_spec("pillow_heif") is not None
    if name == "avif":
        return "avif" in features.modules and bool(features.check("avif"))  # Pillow 11.3
    if name == "webp":
        return bool(features.check("webp"))
    return name in READABLE


HEIF_REMEDY: Final = (
    "Ask the administrator to run `pip install nstd[heif]`, or export the picture as JPEG."
)
"""What to do about a HEIF picture where its library is missing."""
