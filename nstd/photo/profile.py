"""ICC profiles: into sRGB from whatever the file says, and the sRGB profile for results."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageCms

if TYPE_CHECKING:
    from collections.abc import Callable

    Converter = Callable[[Image.Image], Image.Image]

_MODE_OF_SPACE: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_CREATION_DATE: Final = slice(24, 36)  # ICC.1:2022, 7.2.1: dateTimeNumber in the header
_SOME_DATE: Final = bytes.fromhex("07e4 0001 0001 0000 0000 0000")


@cache
def srgb_profile() -> bytes:
    """Return a small sRGB profile, the same bytes at every call (the library stamps the date)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_CREATION_DATE] = _SOME_DATE
    return bytes(profile)


def converter(mode: str, icc: bytes | None) -> Converter:
    """Return what takes a picture of ``mode`` (L, RGB, CMYK, LAB) to RGB in sRGB.

    A profile that is broken, or made for other channels, is ignored: a picture with slightly
    wrong colours is worth more than none.
    """
    if mode == "LAB":
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return transform.apply
    return (_follow(mode, icc) if icc else None) or _plain


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _follow(mode: str, icc: bytes) -> Converter | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if _MODE_OF_SPACE.get(space) != mode or _is_srgb(profile):
            return None
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    return transform.apply


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Tell sRGB by its name, since a conversion to itself would cost time and one bit."""
    name = (profile.profile.profile_description or "").lower()
    return name.startswith("srgb") and "linear" not in name
