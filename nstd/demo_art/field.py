"""Random fields and smooth shapes that the sample pictures are made of.

Fields are (H, W), float32 as a rule; colours are linear light, about 0 to 1. All of it follows
from a seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]


def grid(height: int, width: int) -> tuple[Field, Field]:
    """Return x in [0, width / height] and y in [0, 1] (down) at the pixels' centres."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return (x + 0.5) / height, (y + 0.5) / height


def resize(field: Field, height: int, width: int) -> Field:
    """Return the field at another size, bicubic."""
    image = Image.fromarray(np.ascontiguousarray(field, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    cells: tuple[float, float],
    octaves: int = 5,
    gain: float = 0.5,
) -> Field:
    """Return fractal noise of mean 0 and deviation 1; ``cells`` (down, across) of the coarsest."""
    total = np.zeros((height, width), np.float32)
    down, across = cells
    for octave in range(octaves):
        shape = (int(down * 2**octave) + 2, int(across * 2**octave) + 2)
        if shape[0] > height and shape[1] > width:
            break
        layer = rng.standard_normal(shape).astype(np.float32)
        total += gain**octave * resize(layer, height, width)
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def ridge(
    rng: np.random.Generator, width: int, *, level: float, swing: float, cells: float
) -> Field:
    """Return a ridge's line (width,): its height down the picture over each column."""
    line = noise(rng, 4, width, cells=(1, cells), octaves=8, gain=0.48)[2]
    return np.asarray(level - swing * line, np.float32)


def box(offset: Field, half: Field | float, scale: float) -> Field:
    """Return 1 where |offset| < half, with edges one pixel (1 / scale) soft."""
    return np.asarray(np.clip((half - np.abs(offset)) * scale + 0.5, 0, 1), np.float32)


def smoothstep(low: float, high: float, value: Field) -> Field:
    """Return 0 below ``low``, 1 above ``high``, and a smooth way between (either order)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def gradient(stops: list[tuple[float, Colour]], at: Field) -> Field:
    """Return colours (..., 3) between ``stops`` (position, colour)."""
    places = [place for place, _ in stops]
    channels = [np.interp(at, places, [colour[i] for _, colour in stops]) for i in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def over(base: Field, colour: Field | Colour, alpha: Field) -> Field:
    """Return ``base`` (H, W, 3) with ``colour`` laid over it by ``alpha`` (H, W)."""
    return base + alpha.astype(np.float32)[..., None] * (np.asarray(colour, np.float32) - base)


def shift(field: Field, down: int, right: int) -> Field:
    """Return what lies (down, right) of every pixel; the border repeats."""
    height, width = field.shape
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return field[rows[:, None], columns]


def blur(field: Field, radius: float) -> Field:
    """Return the field (H, W) or (H, W, C) blurred by going down and up in size: quick and soft."""
    if field.ndim == 3:
        return np.stack([blur(field[..., i], radius) for i in range(field.shape[2])], -1)
    height, width = field.shape
    small = (max(2, round(height / radius)), max(2, round(width / radius)))
    image = Image.fromarray(np.ascontiguousarray(field, np.float32))
    down = image.resize((small[1], small[0]), Image.Resampling.BOX)
    return np.asarray(down.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def to_srgb(linear: Field) -> NDArray[np.uint8]:
    """Return linear light as 8-bit sRGB (IEC 61966-2-1)."""
    value = np.clip(linear, 0, 1)
    curve = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(curve * 255), np.uint8)


class Sketch:
    """A mask for thin things, drawn ``fine`` times as large as it becomes; lengths in pixels."""

    def __init__(self, height: int, width: int, fine: int) -> None:
        self._size, self._fine = (width, height), fine
        self._image = Image.new("L", (width * fine, height * fine))
        self._pen = ImageDraw.Draw(self._image)

    def _points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(u * self._fine, v * self._fine) for u, v in points]

    def polygon(self, points: list[tuple[float, float]], tone: int = 255) -> None:
        """Fill a polygon of (x, y) corners."""
        self._pen.polygon(self._points(points), tone)

    def line(self, points: list[tuple[float, float]], thick: float, tone: int = 255) -> None:
        """Draw a line through (x, y) points."""
        self._pen.line(self._points(points), tone, max(1, round(thick * self._fine)))

    def dot(self, middle: tuple[float, float], thick: float) -> None:
        """Draw a disc: the joint of two thick lines."""
        u, v, r = middle[0] * self._fine, middle[1] * self._fine, thick * self._fine / 2
        self._pen.ellipse([u - r, v - r, u + r, v + r], 255)

    def mask(self) -> Field:
        """Return what was drawn, (H, W) in [0, 1]."""
        small = self._image.resize(self._size, Image.Resampling.BOX)
        return np.asarray(small, np.float32) / 255
