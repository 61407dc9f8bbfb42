"""Every kind of sample to 8 bits per channel: 16-bit, 32-bit, floating point, palettes, CMYK."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from nstd.photo.profile import to_srgb
from nstd.photo.resize import Pixels

_WIDE: Final = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 4


def narrow(image: Image.Image) -> Image.Image:
    """Return ``image`` with 8-bit samples; what is in 8 bits already comes back as it is.

    Pillow's own conversion clips 16-bit grey at 255, which turns a photograph white.
    """
    if image.mode not in _WIDE:
        return image
    samples = np.asarray(image)
    if image.mode == "F":
        grey = _stretched(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), (0.0, 1.0))
    elif image.mode == "I":
        grey = _stretched(samples.astype(np.float32), (0.0, 65535.0))
    else:
        grey = _from_bits(samples.astype(np.uint32), _bits(image))
    narrowed = Image.fromarray(grey)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and image.mode != "F":
        # PNG, tRNS of 16-bit grey: that one value is transparent, before any rounding.
        narrowed.putalpha(
            Image.fromarray(np.where(samples == transparent, 0, 255).astype(np.uint8))
        )
    return narrowed


def _bits(image: Image.Image) -> int:
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return bits if isinstance(bits, int) and 8 < bits <= 16 else 16


def _from_bits(samples: npt.NDArray[np.uint32], bits: int) -> Pixels:
    top = (1 << bits) - 1
    narrowed: Pixels = ((samples * 255 + top // 2) // top).clip(0, 255).astype(np.uint8)
    return narrowed


def _stretched(samples: npt.NDArray[np.float32], usual: tuple[float, float]) -> Pixels:
    """Scale to 0..255: from the usual range where all samples lie in it, else from their own."""
    low, high = usual
    least, most = float(samples.min()), float(samples.max())
    if least < low or most > high:
        low, high = least, most
    scale = 255.0 / (high - low) if high > low else 0.0
    stretched: Pixels = np.clip(np.rint((samples - low) * scale), 0, 255).astype(np.uint8)
    return stretched


def has_alpha(image: Image.Image) -> bool:
    """Whether an 8-bit picture has an alpha channel or a transparent colour."""
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Return an 8-bit picture as RGB, or RGBA where it is transparent, in sRGB."""
    if not has_alpha(image):
        return to_srgb(_channels(image), icc)
    straight = image.convert("LA" if image.mode in {"LA", "La"} else "RGBA")
    colours = straight.convert("L" if straight.mode == "LA" else "RGB")
    result = to_srgb(colours, icc)
    result.putalpha(straight.getchannel("A"))
    return result


def _channels(image: Image.Image) -> Image.Image:
    if image.mode == "CMYK":
        # Pillow takes every CMYK JPEG for Adobe's, which stores ink inverted.
        foreign = image.format in {"JPEG", "MPO"} and "adobe" not in image.info
        return ImageChops.invert(image) if foreign else image
    if image.mode in {"L", "RGB", "LAB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")
