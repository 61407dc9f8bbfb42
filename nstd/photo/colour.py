"""Keeping or moving colours: luminance transfer and linear colour matching.

Gatys, Bethge, Hertzmann, Shechtman: "Preserving Color in Neural Artistic Style Transfer", 2016.
Arrays are (H, W, 3) uint8 sRGB; the work is done in rows, so that memory stays small.
"""

from __future__ import annotations

import numpy as np

from nstd.colour_map import Spread, colour_map
from nstd.photo.resize import Pixels, resize

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R'G'B' in Rec. 601 luma, which the paper's YIQ space uses."""
_ROWS = 256


def with_luminance_of(content: Pixels, painted: Pixels) -> Pixels:
    """Return (H, W, 3) with the light of ``painted`` and the colours of ``content``.

    Section 3.2 of the paper: the luma comes from the painting, the chroma from the photograph,
    which is resized where its size differs. A colour that does not exist at its new luma loses
    saturation instead of being clipped, since clipping would change the luma.
    """
    height, width = painted.shape[:2]
    colours = resize(content, height, width)
    result = np.empty_like(painted)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        result[rows] = _with_luma(colours[rows], painted[rows])
    return result


def _with_luma(colours: Pixels, painted: Pixels) -> Pixels:
    colour = colours.astype(np.float32)
    luma = (painted.astype(np.float32) @ _LUMA)[..., None]  # (h, W, 1)
    chroma = colour - (colour @ _LUMA)[..., None]  # (h, W, 3), luma zero
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(chroma > 0, (255.0 - luma) / chroma, -luma / chroma)
    room = np.where(np.isfinite(room), room, 1.0).min(axis=-1, keepdims=True)
    mixed = luma + chroma * np.clip(room, 0.0, 1.0)
    result: Pixels = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return result


def match_colours(style: Pixels, content: Pixels) -> Pixels:
    """Return ``style`` (H, W, 3) recoloured so that its colours spread like ``content``'s.

    Section 3.1 of the paper, with its recommended symmetric root: one linear map moves mean and
    covariance of the style's colours onto the content's. Grey pictures and single colours are
    allowed: each variance has a floor.
    """
    matrix, offset = colour_map(_spread(style), _spread(content))
    result = np.empty_like(style)
    for top in range(0, style.shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        moved = (style[rows].astype(np.float64) / 255.0) @ matrix.T + offset
        result[rows] = np.clip(np.rint(moved * 255.0), 0, 255).astype(np.uint8)
    return result


def _spread(pixels: Pixels) -> Spread:
    """Return how the colours are spread, as values in [0, 1]."""
    count = pixels.shape[0] * pixels.shape[1]
    total = np.zeros(3)
    for top in range(0, pixels.shape[0], _ROWS):
        total += pixels[top : top + _ROWS].sum(axis=(0, 1), dtype=np.float64)
    mean = total / (255.0 * count)
    products = np.zeros((3, 3))
    for top in range(0, pixels.shape[0], _ROWS):
        # Centred before squaring: the difference of two large sums would lose grey pictures.
        rows = pixels[top : top + _ROWS].reshape(-1, 3).astype(np.float64) / 255.0 - mean
        products += rows.T @ rows
    return Spread(mean, products / count)
