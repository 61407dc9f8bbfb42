"""Sizes of pictures: how large, and resampled so.

Arrays are uint8, (H, W, 3) or (H, W), sRGB as stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def fit(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Return ``(height, width)`` with ``long_side`` as the longer side, each at least 1."""
    longest = max(height, width)
    return (
        max(1, round(height * long_side / longest)),
        max(1, round(width * long_side / longest)),
    )


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resample (H, W[, 3]) uint8 to (height, width[, 3]) with an antialiased Lanczos filter.

    Lanczos keeps edges where a picture grows, and its support widens with the factor where a
    picture shrinks. The same size comes back as it is.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels)
    # Above a factor of three a box filter first is as good and far cheaper.
    small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(small)
