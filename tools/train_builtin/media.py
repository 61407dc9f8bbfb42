"""Painters: rules by which any scene is repainted, from a photograph to dots.

A painter has a palette, a brush and a habit, all from its own random stream; the scene is
another's. To name the painter whatever the scene, and the things whatever the painter, is to know
style from content.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tools.train_builtin.brushwork import Stroke, flow_field, stroke
from tools.train_builtin.noise import (
    Array,
    Rng,
    as_float,
    blur,
    gradient_map,
    ink,
    jitter,
    palette,
    relief,
    spectrum,
    to_bytes,
)

MEDIA = ("photograph", "strokes", "impasto", "strokes", "impasto", "pen and wash", "flat", "dots")
"""Strokes are twice as frequent as the rest: they are what is asked for most."""


@dataclass(frozen=True)
class Painter:
    """What is the same in all pictures of one hand."""

    medium: int
    colours: Array  # (4, 3), dark to light
    recolour: float  # 0: the scene's own colours, 1: the palette's
    unit: float  # size of a touch, pixels
    aspect: float  # a stroke's length over its width
    bristles: int
    relief: float
    swirl: float  # how much of the flow is the painter's own, not the scene's
    flow: int  # kind of that flow
    turn: float  # its direction
    steps: int  # of tone, where it is flat
    scatter: float  # of colour from touch to touch


def painter(seed: int, number: int) -> Painter:
    """Return painter ``number``: its medium goes round, all else is its own."""
    rule = np.random.default_rng([seed, 6, number])
    colours = palette(rule, 4)
    return Painter(
        medium=number % len(MEDIA),
        colours=colours[np.argsort(colours.sum(-1))],
        recolour=float(rule.choice([0.0, 0.4, 0.8]) * rule.uniform(0.7, 1.2)),
        unit=float(rule.uniform(1.0, 2.6)),
        aspect=float(rule.uniform(2.0, 7.0)),
        bristles=int(rule.integers(1, 4)),
        relief=float(rule.uniform(1, 4)),
        swirl=float(rule.uniform(0, 1)),
        flow=int(rule.integers(4)),
        turn=float(rule.uniform(0, np.pi)),
        steps=int(rule.integers(3, 7)),
        scatter=float(rule.uniform(0.02, 0.12)),
    )


def recoloured(hand: Painter, clean: Array) -> Array:
    """Return the scene in the painter's palette, as far as this painter goes."""
    grey = clean.mean(-1) + 1e-3 * np.linspace(0, 1, len(clean))[:, None]
    own = gradient_map(grey, hand.colours)
    return as_float((1 - hand.recolour) * clean + hand.recolour * own)


def paint(rng: Rng, clean: Array, hand: Painter) -> Array:
    """Return the scene as this painter paints it."""
    size, medium = len(clean), MEDIA[hand.medium]
    if medium == "photograph":
        soft = blur(clean, 0.3 * hand.unit)
        return np.clip(soft + 0.3 * hand.scatter * rng.standard_normal(clean.shape), 0, 1)
    if medium in ("strokes", "impasto"):
        return brush(rng, clean, hand, thick=medium == "impasto")
    if medium == "pen and wash":
        edges = np.clip(1 - 6 * np.hypot(*np.gradient(clean.mean(-1))), 0.1, 1)[..., None]
        wash = 0.35 + 0.65 * blur(clean, 1.2 * hand.unit)
        grain = hand.scatter * 0.5 * spectrum(rng, size, 0.4)[..., None]
        return as_float(np.clip(wash * edges + grain, 0, 1))
    if medium == "flat":
        return as_float(np.round(blur(clean, 0.5 * hand.unit) * hand.steps) / hand.steps)
    return spots(rng, clean, hand)


def spots(rng: Rng, clean: Array, hand: Painter) -> Array:
    """Return the scene in round spots of colour."""
    size, r = len(clean), 0.4 + 0.7 * hand.unit
    image = Image.fromarray(to_bytes(blur(clean, 3) * (1.2 - 0.15 * hand.steps / 2)))
    pen = ImageDraw.Draw(image)
    for y, x in rng.uniform(0, size - 1e-3, (int(min(5000, 0.4 * size**2 / r**2)), 2)):
        colour = ink(jitter(rng, clean[int(y), int(x)], hand.scatter))
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    return np.asarray(image, np.float32) / 255


def brush(rng: Rng, clean: Array, hand: Painter, *, thick: bool) -> Array:
    """Return the scene in strokes, broad ones first, along its edges or along a flow."""
    size = len(clean)
    image = Image.fromarray(to_bytes(blur(clean, 2)))
    height = Image.new("L", (size, size), 100)
    pens = ImageDraw.Draw(image), ImageDraw.Draw(height)
    dy, dx = np.gradient(blur(clean.mean(-1), 2.0))
    own = flow_field(rng, size, hand.flow, hand.turn, 2.5 * hand.swirl)
    weight = np.clip(np.hypot(dx, dy) * 40, 0, 1)
    angle = np.where(weight > 0.1 + 0.8 * hand.swirl, np.arctan2(dx, -dy), own)
    for width in (2.0 * hand.unit, hand.unit):
        length = width * hand.aspect
        for y, x in rng.uniform(0, size - 1e-3, (int(1.6 * size**2 / (width * length)), 2)):
            at = int(y), int(x)
            colour = jitter(rng, clean[at], hand.scatter)
            touch = Stroke((y, x), float(angle[at]), length, width, colour, hand.bristles)
            stroke(rng, pens, touch, angle)
    picture = np.asarray(image, np.float32) / 255
    if not thick:
        return picture
    shine = blur(np.asarray(height, np.float32) / 255, 0.6)
    return relief(picture, shine, hand.relief, 0.8)
