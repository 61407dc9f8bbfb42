"""Every kind of sample to 8-bit sRGB: 16 and 32 bits, floating point, palettes, CMYK, LAB.

A large picture is converted in bands of rows, so that only it and the result are ever in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from nstd.photo.profile import converter
from nstd.photo.resize import Pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIXTEEN: Final = {"I;16", "I;16L", "I;16B", "I;16N"}
_USUAL_RANGE: Final = {"I": (0.0, 65535.0), "F": (0.0, 1.0)}
"""What 32-bit grey holds as a rule; where it does not, its own least and most are taken."""
_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 4
_BAND: Final = 256
"""Rows at a time."""


def _bands(height: int) -> Iterator[slice]:
    for top in range(0, height, _BAND):
        yield slice(top, min(top + _BAND, height))


def _band(image: Image.Image, rows: slice) -> Image.Image:
    return image.crop((0, rows.start, image.width, rows.stop))


# --- more than 8 bits --------------------------------------------------------------------------


def narrow(image: Image.Image) -> Image.Image:
    """Return ``image`` with 8-bit samples; what is in 8 bits already comes back as it is.

    Pillow's own conversion clips 16-bit grey at 255, which turns a photograph white.
    """
    if image.mode in _SIXTEEN:
        return _looked_up(image)
    return _stretched(image) if image.mode in _USUAL_RANGE else image


def _looked_up(image: Image.Image) -> Image.Image:
    """16-bit grey, or 12 in 16, through a table of all its values."""
    top = (1 << _bits(image)) - 1
    values = np.minimum(np.arange(65536, dtype=np.uint32), top)
    table = ((values * 255 + top // 2) // top).astype(np.uint8)
    grey = np.empty((image.height, image.width), np.uint8)
    transparent = image.info.get("transparency")
    alpha = np.full_like(grey, 255) if isinstance(transparent, int) else None
    for rows in _bands(image.height):
        samples = np.asarray(_band(image, rows)).astype(np.uint16, copy=False)
        grey[rows] = table[samples]
        if alpha is not None:  # PNG, tRNS: that one value of 16 bits, before any rounding
            alpha[rows][samples == transparent] = 0
    narrowed = Image.fromarray(grey)
    if alpha is not None:
        narrowed.putalpha(Image.fromarray(alpha))
    return narrowed


def _bits(image: Image.Image) -> int:
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return bits if isinstance(bits, int) and 8 < bits <= 16 else 16


def _stretched(image: Image.Image) -> Image.Image:
    low, high = _USUAL_RANGE[image.mode]
    extremes = [(part.min(), part.max()) for _, part in _numbers(image)]
    least, most = min(pair[0] for pair in extremes), max(pair[1] for pair in extremes)
    if least < low or most > high:
        low, high = float(least), float(most)
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty((image.height, image.width), np.uint8)
    for rows, part in _numbers(image):
        grey[rows] = np.clip(np.rint((part - low) * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def _numbers(image: Image.Image) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Yield bands of 32-bit grey; what is no number counts as 0."""
    for rows in _bands(image.height):
        part = np.asarray(_band(image, rows)).astype(np.float64)
        yield rows, np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)


# --- channels ----------------------------------------------------------------------------------


def has_alpha(image: Image.Image) -> bool:
    """Whether an 8-bit picture has an alpha channel or a transparent colour."""
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def ink_is_inverted(image: Image.Image) -> bool:
    """Whether a freshly read CMYK picture has its ink the wrong way round.

    Pillow takes every CMYK JPEG for one of Adobe's, which store ink inverted.
    """
    is_jpeg = image.format in {"JPEG", "MPO"}
    return image.mode == "CMYK" and is_jpeg and "adobe" not in image.info


def to_arrays(
    image: Image.Image, icc: bytes | None, *, inverted: bool = False
) -> tuple[Pixels, Pixels | None]:
    """Return an 8-bit picture as (H, W, 3) sRGB and, where it is transparent, (H, W) alpha."""
    mode = _plain_mode(image)
    convert = converter(mode.removesuffix("A"), icc)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if mode.endswith("A") else None
    for rows in _bands(image.height):
        band = _band(image, rows)
        if band.mode != mode:
            band = band.convert(mode)
        if alpha is not None:
            alpha[rows] = np.asarray(band.getchannel("A"))
            band = band.convert(mode.removesuffix("A"))
        pixels[rows] = np.asarray(convert(ImageChops.invert(band) if inverted else band))
    return pixels, alpha


def _plain_mode(image: Image.Image) -> str:
    """Return the nearest of the modes that profiles are made for, with A for alpha."""
    if has_alpha(image):
        return "LA" if image.mode in {"L", "LA", "La", "1"} else "RGBA"
    if image.mode in {"L", "RGB", "CMYK", "LAB"}:
        return image.mode
    return "L" if image.mode == "1" else "RGB"
