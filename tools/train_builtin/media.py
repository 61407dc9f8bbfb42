"""The media in which a scene is repainted, from a photograph to dots."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tools.train_builtin.brushwork import Stroke, stroke
from tools.train_builtin.noise import (
    Array,
    Rng,
    as_float,
    blur,
    ink,
    jitter,
    relief,
    spectrum,
    to_bytes,
)

MEDIA = ("photograph", "strokes", "impasto", "pen and wash", "flat", "dots")


def paint(rng: Rng, clean: Array, medium: int) -> Array:
    """Return the scene in a medium of ``MEDIA``."""
    size = len(clean)
    if medium == 0:
        soft = blur(clean, rng.uniform(0.1, 0.9))
        return np.clip(soft + rng.uniform(0, 0.04) * rng.standard_normal(clean.shape), 0, 1)
    if medium in (1, 2):
        return brush(rng, clean, thick=medium == 2)
    if medium == 3:
        grey = clean.mean(-1)
        edges = np.clip(1 - 6 * np.hypot(*np.gradient(grey)), 0.1, 1)[..., None]
        wash = 0.35 + 0.65 * blur(clean, rng.uniform(1, 3))
        return as_float(np.clip(wash * edges + 0.03 * spectrum(rng, size, 0.4)[..., None], 0, 1))
    if medium == 4:
        steps = rng.integers(3, 7)
        return as_float(np.round(blur(clean, rng.uniform(0.5, 1.5)) * steps) / steps)
    image = Image.fromarray(to_bytes(blur(clean, 3) * rng.uniform(0.6, 1.1)))
    pen, r = ImageDraw.Draw(image), rng.uniform(0.8, 2.5)
    for y, x in rng.uniform(0, size - 1e-3, (int(min(3000, 1.2 * size**2 / (r * r * 3))), 2)):
        colour = ink(jitter(rng, clean[int(y), int(x)], 0.07))
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    return np.asarray(image, np.float32) / 255


def brush(rng: Rng, clean: Array, *, thick: bool) -> Array:
    """Return the scene in strokes, broad ones first, along its edges or along a flow."""
    size = len(clean)
    image = Image.fromarray(to_bytes(blur(clean, 2)))
    height = Image.new("L", (size, size), 100)
    pens = ImageDraw.Draw(image), ImageDraw.Draw(height)
    dy, dx = np.gradient(blur(clean.mean(-1), 2.0))
    swirl = rng.uniform(0, 3) * spectrum(rng, size, 2.6)
    weight = np.clip(np.hypot(dx, dy) * 40, 0, 1)
    angle = np.where(weight > 0.3, np.arctan2(dx, -dy), swirl)
    unit, bristles = rng.uniform(1.0, 1.8), int(rng.integers(1, 4))
    for width, length in ((3.5 * unit, 14 * unit), (1.6 * unit, 8 * unit)):
        for y, x in rng.uniform(0, size - 1e-3, (int(1.6 * size**2 / (width * length)), 2)):
            at = int(y), int(x)
            colour = jitter(rng, clean[at], 0.04)
            touch = Stroke((y, x), float(angle[at]), length, width, colour, bristles)
            stroke(rng, pens, touch, angle)
    picture = np.asarray(image, np.float32) / 255
    if not thick:
        return picture
    shine = blur(np.asarray(height, np.float32) / 255, 0.6)
    return relief(picture, shine, rng.uniform(1, 4), 0.8)
