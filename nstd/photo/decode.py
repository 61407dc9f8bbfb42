"""The bytes of a file to pixels: upright, sRGB, 8 bits, with alpha apart.

Pixels are (H, W, 3) uint8 sRGB, alpha (H, W) uint8. Everything a file can do wrong ends in a
DecodeError, TooLargeError or UnsupportedError whose sentence names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from nstd.errors import DecodeError, UnsupportedError
from nstd.photo import metadata as metadata_
from nstd.photo.header import AGAIN, check_bytes, check_size, kind_of, opened
from nstd.photo.hollow import tiff_is_hollow, webp_is_hollow
from nstd.photo.metadata import Metadata
from nstd.photo.png import essential
from nstd.photo.resize import Pixels
from nstd.photo.samples import has_alpha, ink_is_inverted, narrow, to_arrays
from nstd.photo.structure import HOLLOW, fault
from nstd.photo.transparency import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from nstd.photo.limits import Limits


def _as_it_is(stored: Pixels) -> Pixels:
    return stored


_TURNS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
"""EXIF 2.32, table 6, tag 0x0112: what puts each stored orientation upright."""
_SIDEWAYS: Final = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}
_DNG_VERSION: Final = 50706


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded picture."""

    pixels: Pixels
    """(H, W, 3) uint8 sRGB, upright; where it was transparent, filled from around."""
    alpha: Pixels | None
    """(H, W) uint8, None where all is opaque."""
    format: str
    """jpg, png, webp, tiff, gif, heif or avif."""
    size: tuple[int, int]
    """(width, height) of the original, upright, which `pixels` may be smaller than."""
    metadata: Metadata


def decode(
    data: bytes, *, limits: Limits, max_side: int | None = None, name: str = "the picture"
) -> Photo:
    """Decode the picture in ``data``, the first one where it holds several.

    With ``max_side`` a picture more than four times as long is reduced on the way, to no less
    than twice that: enough for any later resampling, and far less memory. ``name`` goes into
    messages. Raises DecodeError (damaged, cut, no picture), TooLargeError (over a limit),
    UnsupportedError (a known kind that cannot be read here).
    """
    check_bytes(len(data), limits, name)
    format_ = kind_of(data, name)
    why = fault(data, format_)
    if why is not None:
        raise DecodeError(f'"{name}" is damaged: {why}.', AGAIN)
    if format_ == "png":
        data = essential(data, limits.max_profile_bytes)
    with opened(data, limits=limits, name=name) as (_, image):
        size = image.size
        if max_side is not None:
            image.draft(None, _at_least(size, 2 * max_side))  # JPEG's decoder shrinks for free
        image.load()
        check_size(*image.size, limits, name)  # a GIF's first frame may be larger than its screen
        _refuse_hollow(image, data, name)
        exif = _exif(image)
        turn = _TURNS.get(_orientation(exif), _as_it_is)
        facts = metadata_.read(exif, image.info)
        pixels, alpha = _arrays(image, limits, max_side)
    if alpha is not None:
        fill(pixels, alpha)
    return Photo(
        pixels=np.ascontiguousarray(turn(pixels)),
        alpha=None if alpha is None else np.ascontiguousarray(turn(alpha)),
        format=format_,
        size=size[::-1] if turn in _SIDEWAYS else size,
        metadata=facts,
    )


def warm_up() -> None:
    """Load all of Pillow's readers: for a process that forks others, which then have them."""
    Image.init()


def mask_of(photo: Photo) -> Pixels:
    """Return a picture as a mask: (H, W) uint8, its brightness, 0 where it is transparent."""
    grey = np.asarray(Image.fromarray(photo.pixels).convert("L"))
    if photo.alpha is None:
        return np.array(grey)
    return (grey.astype(np.uint16) * photo.alpha // 255).astype(np.uint8)


def decode_mask(data: bytes, limits: Limits, *, name: str = "the mask") -> Pixels:
    """Decode a mask: (H, W) uint8, 0 where the style is kept out, 255 where it is full.

    Its brightness counts, and where it is transparent it is 0. Raises as `decode` does.
    """
    return mask_of(decode(data, limits=limits, name=name))


def _at_least(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return ``size`` shrunk to ``long_side``, the smallest that a reduction may leave."""
    longest = max(size)
    return (
        max(1, -(-size[0] * long_side // longest)),
        max(1, -(-size[1] * long_side // longest)),
    )


def _exif(image: Image.Image) -> Image.Exif:
    """Return the picture's EXIF, empty where it cannot be parsed."""
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001  # Pillow's parser on hostile bytes raises nearly anything
        return Image.Exif()


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(Base.Orientation)
    return value if isinstance(value, int) else 1


def _arrays(
    image: Image.Image, limits: Limits, max_side: int | None
) -> tuple[Pixels, Pixels | None]:
    """Return the sRGB colours and the alpha, reduced where the picture is far larger."""
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or len(icc) > limits.max_profile_bytes:
        icc = None
    inverted = ink_is_inverted(image)
    pixels, alpha = to_arrays(_reduced(narrow(image), max_side), icc, inverted=inverted)
    opaque = alpha is None or bool((alpha == 255).all())
    return pixels, None if opaque else alpha


def _reduced(image: Image.Image, max_side: int | None) -> Image.Image:
    """Shrink by a whole factor; a picture that was reduced early never takes its full memory."""
    factor = 1 if max_side is None else max(image.size) // (2 * max_side)
    if factor < 2:
        return image
    if image.mode in {"P", "PA", "1"} or "transparency" in image.info:
        image = image.convert("RGBA" if has_alpha(image) else "RGB")
    return image.reduce(factor)


def _refuse_hollow(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse a picture that decoded, though its end never arrived, and a RAW file in disguise."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        hollow = image.format == "WEBP" and webp_is_hollow(image, data)
    elif _DNG_VERSION in tags:
        raise UnsupportedError(
            f'"{name}" is a camera RAW file (DNG), of which only the thumbnail could be read.',
            "Develop it in a photo application and export it as JPEG, TIFF or PNG.",
        )
    else:
        hollow = tiff_is_hollow(tags, data)
    if hollow:
        raise DecodeError(f'"{name}" is damaged: {HOLLOW}.', AGAIN)
