"""A bleed: the picture is painted a little larger than asked for, and trimmed, as printers do.

The network's padding leaves traces in the outermost pixels: bright dots, a pale or dark seam.
Continued by its own mirror image, the photograph has no border where the picture ends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nstd.engine.params import StyleParams
from nstd.engine.progress import Image, Listener, Result, StyleImage


def width_of(height: int, width: int, params: StyleParams) -> int:
    """Return the bleed in pixels on each side; 0: none."""
    if not params.bleed:
        return 0
    return min(max(4, round(params.bleed * max(height, width))), min(height, width) - 1)


def extend(content: Image, pixels: int) -> Image:
    """Return the photograph (H, W, 3), continued by its mirror image on every side."""
    if not pixels:
        return content
    return np.pad(content, ((pixels, pixels), (pixels, pixels), (0, 0)), "reflect")


def extend_mask(style: StyleImage, height: int, width: int, pixels: int) -> StyleImage:
    """Return the style with its mask continued in proportion to a photograph of (height, width)."""
    if not pixels or style.mask is None:
        return style
    down = round(pixels * style.mask.shape[0] / height)
    across = round(pixels * style.mask.shape[1] / width)
    return replace(style, mask=np.pad(style.mask, ((down, down), (across, across)), "edge"))


def trim(picture: Image, pixels: int, *, painted: int) -> Image:
    """Return the picture without its bleed of ``pixels`` of a long side of ``painted``.

    Previews of coarse levels are smaller than the picture, and so is their bleed.
    """
    cut = round(pixels * max(picture.shape[:2]) / painted)
    return picture[cut : picture.shape[0] - cut, cut : picture.shape[1] - cut] if cut else picture


def trimming(listener: Listener, pixels: int, *, painted: int) -> Listener:
    """Return a listener whose previews come without the bleed."""
    preview = listener.preview
    if preview is None or not pixels:
        return listener
    return replace(
        listener, preview=lambda picture: preview(trim(picture, pixels, painted=painted))
    )


def trimmed(result: Result, pixels: int, *, painted: int) -> Result:
    """Return the result with its picture trimmed, and the bleed named in its plan."""
    picture = trim(result.pixels, pixels, painted=painted)
    return replace(result, pixels=picture, plan={**result.plan, "bleed": pixels})
