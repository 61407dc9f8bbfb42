"""What stands where a picture is transparent while it is painted.

Under transparent pixels files keep whatever their maker left there, often something cut out on
purpose. It must not show in a result, so those areas are filled from the visible ones around.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from nstd.photo.resize import Pixels

_COARSE: Final = 256
"""Long side on which the filling is computed; it is smooth, so nothing finer is needed."""
_MIDDLE: Final = 128.0
"""Grey for a picture that shows nothing at all."""

_VISIBLE: Final = np.minimum(np.arange(256) * 8, 255).astype(np.uint8)
"""How much of a pixel's own colour stays, by its alpha: all of it from an eighth on.

Else a picture on glass would be painted as nothing but filling.
"""
_BAND: Final = 64
"""Rows at a time."""

Floats = npt.NDArray[np.float32]


def fill(pixels: Pixels, alpha: Pixels) -> None:
    """Fill (H, W, 3) ``pixels`` in place where (H, W) ``alpha`` hides them."""
    height, width = alpha.shape
    coarse = _coarse_filling(pixels, alpha)
    step = coarse.height / height
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        visible = Image.fromarray(_VISIBLE[alpha[rows]])
        box = (0.0, top * step, float(coarse.width), rows.stop * step)
        size = (width, rows.stop - top)
        filling = coarse.resize(size, Image.Resampling.BICUBIC, box=box)
        filling.paste(Image.fromarray(pixels[rows]), mask=visible)
        pixels[rows] = np.asarray(filling)


def flatten(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Lay an RGB picture with its alpha on white, as everybody expects of a JPEG."""
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=alpha)
    return paper


def _coarse_filling(pixels: Pixels, alpha: Pixels) -> Image.Image:
    """Return smooth colours, from the visible pixels, on a coarse grid."""
    factor = max(1, -(-max(alpha.shape) // _COARSE))
    step = factor * -(-_BAND // factor)
    bands = []
    for top in range(0, len(alpha), step):
        image = Image.fromarray(pixels[top : top + step])
        image.putalpha(Image.fromarray(alpha[top : top + step]))
        # Premultiplied first, so that hidden colours weigh nothing in the average.
        bands.append(np.asarray(image.convert("RGBa").reduce(factor), dtype=np.float32))
    small = np.concatenate(bands)  # (h, w, 4)
    colours = _push_pull(small[..., :3], small[..., 3:] / 255.0)
    return Image.fromarray(np.clip(np.rint(colours), 0, 255).astype(np.uint8))


def _push_pull(premultiplied: Floats, weight: Floats) -> Floats:
    """Fill (h, w, 3) from its own weighted means, coarser where there is less to go by.

    Gortler et al., "The Lumigraph", 1996, section 3.4.2.
    """
    height, width = weight.shape[:2]
    if height == 1 and width == 1:
        known = float(weight[0, 0, 0])
        return premultiplied / known if known > 0 else np.full_like(premultiplied, _MIDDLE)
    coarse = _push_pull(_halve(premultiplied), _halve(weight))
    below = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[:height, :width]
    return premultiplied + (1.0 - weight) * below


def _halve(values: Floats) -> Floats:
    """Mean of each 2x2 block of (h, w, C); an odd last row or column stands for itself."""
    padded = np.pad(
        values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2), (0, 0)), mode="edge"
    )
    height, width, channels = padded.shape
    means: Floats = padded.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))
    return means
