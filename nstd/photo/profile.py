"""ICC profiles: into sRGB from whatever the file says, and the sRGB profile for results."""

from __future__ import annotations

import io
from functools import cache
from typing import Final

from PIL import Image, ImageCms

_MODES_OF_SPACE: Final = {
    "RGB": ("RGB",),
    "GRAY": ("L",),
    "CMYK": ("CMYK",),
    "LAB": ("LAB",),
}
_CREATION_DATE: Final = slice(24, 36)  # ICC.1:2022, 7.2.1: dateTimeNumber in the header
_SOME_DATE: Final = bytes.fromhex("07e4 0001 0001 0000 0000 0000")


@cache
def srgb_profile() -> bytes:
    """Return a small sRGB profile, the same bytes at every call (the library stamps the date)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_CREATION_DATE] = _SOME_DATE
    return bytes(profile)


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Return ``image`` (L, RGB, CMYK or LAB) as RGB in sRGB.

    A profile that is broken, or made for other channels, is ignored: a picture with slightly
    wrong colours is worth more than none.
    """
    if image.mode == "LAB":
        return _from_lab(image)
    converted = _apply(image, icc) if icc else None
    return converted if converted is not None else image.convert("RGB")


def _apply(image: Image.Image, icc: bytes) -> Image.Image | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if image.mode not in _MODES_OF_SPACE.get(space, ()) or _is_srgb(profile):
            return None
        return ImageCms.profileToProfile(
            image,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Tell sRGB by its name, since a conversion to itself would cost time and one bit."""
    name = (profile.profile.profile_description or "").lower()
    return name.startswith("srgb") and "linear" not in name


def _from_lab(image: Image.Image) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    return converted if converted is not None else image.convert("L").convert("RGB")
