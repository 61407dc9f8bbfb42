"""What a picture may weigh and measure before anybody decodes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper bounds that are checked from the file's header, before any pixel is decoded."""

    max_bytes: int = 256 * 2**20
    """Size of the file."""
    max_pixels: int = 150_000_000
    """Width times height: above this a 35 MB file has been seen to take a machine down."""
    max_side: int = 32_768
    """Longer side, in pixels."""
    max_ratio: float = 64.0
    """Long side over short side; a 30000 x 1 strip has nothing to paint."""
    max_metadata_bytes: int = 32 * 2**20
    """Everything in the file that is not pixels: EXIF, XMP, ICC profiles, texts, thumbnails.

    Phones put depth maps of several MiB there, so this is generous.
    """
    max_profile_bytes: int = 8 * 2**20
    """An ICC profile; the largest printing profiles have about 3 MiB. A larger one is ignored."""


DEFAULT_LIMITS = Limits()
"""The limits that apply where no configuration says otherwise."""
