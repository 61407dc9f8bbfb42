"""What a picture says about itself: date, author, place; what of it a result keeps."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from PIL import Image
from PIL.ExifTags import IFD, Base

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_OFFSET_TIMES: Final = {
    Base.DateTimeOriginal: Base.OffsetTimeOriginal,
    Base.DateTimeDigitized: Base.OffsetTimeDigitized,
    Base.DateTime: Base.OffsetTime,
}
_DATE: Final = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")
_ZONE: Final = re.compile(r"[+-]\d\d:\d\d")
_LONGEST_TEXT: Final = 2000
"""Longest author or copyright that is kept, in characters."""


@dataclass(frozen=True)
class Metadata:
    """The few facts about a photograph that a painting of it may carry."""

    taken: str | None = None
    """``YYYY:MM:DD HH:MM:SS``, EXIF's own form, in the camera's local time."""
    zone: str | None = None
    """``+HH:MM`` of the date, where the camera recorded it."""
    author: str | None = None
    copyright: str | None = None
    gps: bytes | None = None
    """An EXIF block that holds the place and nothing else."""


NOTHING: Final = Metadata()
"""The metadata of a picture that has none."""


def keep(metadata: Metadata, *, gps: bool) -> Metadata:
    """Return what a result may carry: everything, but the place only where ``gps`` is set."""
    return metadata if gps else replace(metadata, gps=None)


def read(exif: Image.Exif, info: Mapping[Any, object]) -> Metadata:
    """Collect the metadata of an opened picture; what cannot be read counts as absent.

    ``info`` are Pillow's facts of the file, for PNG texts.
    """
    taken, zone = _date(exif)
    return Metadata(
        taken=taken,
        zone=zone,
        author=_text(exif.get(Base.Artist))
        or _wide_text(exif.get(Base.XPAuthor))
        or _text(info.get("Author")),
        copyright=_text(exif.get(Base.Copyright)) or _text(info.get("Copyright")),
        gps=_gps_block(exif),
    )


def write(metadata: Metadata, description: str | None = None) -> bytes:
    """Return a new EXIF block of the metadata, empty where there is none.

    It is built from nothing: no orientation, thumbnail or maker's note can slip through.
    """
    exif = Image.Exif()
    if metadata.gps is not None:
        exif.load(metadata.gps)
    for tag, text in (
        (Base.ImageDescription, description),
        (Base.Artist, metadata.author),
        (Base.Copyright, metadata.copyright),
    ):
        if text:
            exif[tag] = text.encode()  # bytes, since Pillow would write "?" for what is not ASCII
    if metadata.taken:
        zone = {Base.OffsetTimeOriginal: metadata.zone} if metadata.zone else {}
        exif[IFD.Exif] = {Base.DateTimeOriginal: metadata.taken, **zone}
    return exif.tobytes() if len(exif) else b""


def _date(exif: Image.Exif) -> tuple[str | None, str | None]:
    details = _ifd(exif, IFD.Exif)
    for tag, zone_tag in _OFFSET_TIMES.items():
        source: Mapping[int, object] = exif if tag == Base.DateTime else details
        taken = _text(source.get(tag))
        # Cameras whose clock was never set write blanks or zeros.
        if taken and _DATE.fullmatch(taken) and not taken.startswith("0000"):
            zone = _text(details.get(zone_tag))
            return taken, zone if zone and _ZONE.fullmatch(zone) else None
    return None, None


def _ifd(exif: Image.Exif, which: IFD) -> Mapping[int, object]:
    try:
        return exif.get_ifd(which)
    except Exception:  # noqa: BLE001  # Pillow's parser on hostile bytes raises nearly anything
        return {}


def _gps_block(exif: Image.Exif) -> bytes | None:
    places = _ifd(exif, IFD.GPSInfo)
    if not places:
        return None
    block = Image.Exif()
    try:
        block[IFD.GPSInfo] = dict(places)
        return block.tobytes()
    except (ValueError, TypeError, KeyError, OverflowError, ZeroDivisionError, struct.error):
        return None  # a place that cannot be written again is as good as none


def _text(value: object) -> str | None:
    """Clean an EXIF string; Pillow reads Latin-1 where nearly everybody writes UTF-8."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    printable = "".join(letter for letter in value if letter.isprintable())
    return printable.strip()[:_LONGEST_TEXT] or None


def _wide_text(value: object) -> str | None:
    """Clean one of Windows Explorer's XP texts: UTF-16 in bytes."""
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        value = bytes(item & 0xFF for item in value)
    if not isinstance(value, bytes):
        return None
    text = value.decode("utf-16-le", errors="ignore").rstrip("\0")
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_TEXT] or None
