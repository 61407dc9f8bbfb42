"""The photograph in the style's colours: what the optimization starts from.

One linear map (``colour_map``) moves mean and covariance of the photograph's colours onto the
style's. A start in the right palette spares the steps that would carry every
pixel there: the same steps end nearer to the photograph's lines, and calmer (measured).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nstd.colour_map import Spread, colour_map
from nstd.engine.progress import Image, StyleImage

Array = NDArray[np.float64]
Pixels = NDArray[np.float32]

_ENOUGH = 65_536
"""Pixels that tell a picture's colours; larger ones are read in steps."""
_PLAIN = 2e-3
"""Total variance below which a style has no colours to give (about 3 % of the range)."""


def recoloured(
    content: Pixels, regions: Sequence[Sequence[StyleImage]], shares: Sequence[Pixels]
) -> Pixels:
    """Return ``content`` (1, h, w, 3) in [0, 1] in the colours of each region's blended styles.

    ``shares``: each region's part of every place, (1, h, w, 1); what belongs to none keeps its
    colours, and so does a region whose style hardly has any (a plain colour).
    """
    moved = content.copy()
    for styles, share in zip(regions, shares, strict=True):
        moved += share * (_matched(content, styles) - content)
    return moved


def _matched(content: Pixels, styles: Sequence[StyleImage]) -> Pixels:
    flat = content.reshape(-1, 3).astype(np.float64)
    aim = _spread([(style.weight, _sample(style.pixels)) for style in styles])
    if np.trace(aim.covariance) < _PLAIN:
        return content
    matrix, offset = colour_map(_spread([(1.0, flat)]), aim)
    moved = flat @ matrix.T + offset
    return np.clip(moved, 0.0, 1.0).astype(np.float32).reshape(content.shape)


def _sample(pixels: Image) -> Array:
    """Return some (n, 3) of a picture's colours in [0, 1]."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _ENOUGH) ** 0.5))
    return pixels[::step, ::step].reshape(-1, 3) / 255.0


def _spread(parts: Sequence[tuple[float, Array]]) -> Spread:
    """Return how colours are spread that are mixed by weight."""
    total = sum(weight for weight, _ in parts)
    mean = sum(weight / total * colours.mean(0) for weight, colours in parts)
    covariance = sum(
        weight / total * (colours - mean).T @ (colours - mean) / len(colours)
        for weight, colours in parts
    )
    return Spread(np.asarray(mean), np.asarray(covariance))
