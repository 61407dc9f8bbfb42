"""What the painting shows: a valley under a windy sky, as a loose sketch and a flow for the brush.

Lengths are in heights of the picture, y down; colours are linear light.
"""

from __future__ import annotations

import numpy as np

from nstd.demo_art.field import Colour, Field, gradient, noise, over, ridge, smoothstep

HEIGHT, WIDTH = 640, 800

VORTICES = ((0.34, 0.24, 0.17, 1.0), (0.80, 0.17, 0.12, -0.8), (0.62, 0.40, 0.10, 0.7))
"""Swirls of the sky: place across and down, radius, and turn."""

MOON = (1.03, 0.145)

POPLARS = ((0.155, 0.86, 0.60, 0.046), (0.245, 0.84, 0.40, 0.034), (1.10, 0.80, 0.24, 0.024))
"""Place across, foot, height, and half the width."""

SKY: list[tuple[float, Colour]] = [
    (0.00, (0.010, 0.03, 0.17)),
    (0.30, (0.022, 0.10, 0.36)),
    (0.55, (0.080, 0.30, 0.52)),
    (0.80, (0.420, 0.60, 0.56)),
    (1.00, (0.880, 0.82, 0.48)),
]

EARTH: tuple[list[tuple[float, Colour]], ...] = (
    [(-2, (0.030, 0.065, 0.20)), (0, (0.075, 0.14, 0.30)), (2, (0.24, 0.25, 0.36))],
    [(-2, (0.012, 0.060, 0.05)), (0, (0.050, 0.16, 0.07)), (2, (0.28, 0.34, 0.07))],
    [(-2, (0.360, 0.140, 0.01)), (0, (0.700, 0.36, 0.025)), (2, (0.92, 0.64, 0.12))],
)
"""Far hills, near hills, and the field, each by the patches on it."""

LEAF: list[tuple[float, Colour]] = [
    (-1.0, (0.008, 0.030, 0.030)),
    (0.2, (0.020, 0.075, 0.035)),
    (1.0, (0.100, 0.170, 0.030)),
]


def land(rng: np.random.Generator) -> list[Field]:
    """Return the lines (W,) of far hills, near hills, and the field's edge."""
    return [
        ridge(rng, WIDTH, level=0.600, swing=0.028, cells=3.0),
        ridge(rng, WIDTH, level=0.685, swing=0.022, cells=2.0),
        ridge(rng, WIDTH, level=0.770, swing=0.012, cells=2.0),
    ]


def sketch(rng: np.random.Generator, x: Field, y: Field, lines: list[Field]) -> Field:
    """Return the colours (H, W, 3) that the strokes take."""
    picture = _sky(rng, x, y)
    patches = noise(rng, HEIGHT, WIDTH, cells=(10, 6), octaves=4)
    for line, colours in zip(lines, EARTH, strict=True):
        cover = smoothstep(0.0, 0.006, y - line[None, :])
        picture = over(picture, gradient(colours, patches), cover)
    for across, foot, tall, wide in POPLARS:
        picture = _poplar(picture, x - across, (foot - y) / tall, wide, bend=across * 20)
    poppies = noise(rng, HEIGHT, WIDTH, cells=(64, 60), octaves=1)
    red = smoothstep(1.5, 2.0, poppies) * smoothstep(0.83, 0.88, y)
    return over(picture, (0.60, 0.035, 0.015), red)


def _sky(rng: np.random.Generator, x: Field, y: Field) -> Field:
    rings = np.zeros_like(x)
    for across, down, radius, _turn in VORTICES:
        distance = np.hypot(x - across, y - down) / radius
        turn = np.arctan2(y - down, x - across)
        rings += np.exp(-(distance**2) / 1.6) * np.sin(distance * 7.0 + turn)
    wind = noise(rng, HEIGHT, WIDTH, cells=(5, 3), octaves=4)
    sky = gradient(SKY, np.clip(0.40 + 0.16 * wind + 0.26 * rings + 0.55 * (y - 0.3), 0, 1))
    moon = np.hypot(x - MOON[0], y - MOON[1])
    halo = np.exp(-((moon / 0.085) ** 2)) + 0.35 * np.exp(-(((moon - 0.13) / 0.02) ** 2))
    sky = over(sky, (0.98, 0.80, 0.26), np.clip(halo, 0, 1))
    return over(sky, (1.0, 0.93, 0.62), smoothstep(0.050, 0.040, moon))


def _poplar(picture: Field, across: Field, up: Field, wide: float, bend: float) -> Field:
    """Stand a tree of flaming outline into the picture; ``up`` is 0 at its foot, 1 at its top."""
    rise = np.clip(up, 0, 1)
    sway = 0.010 * np.sin(rise * 9 + bend)
    half = wide * np.sqrt(np.clip(rise * 6, 0, 1)) * (1 - rise) ** 0.55 + 0.004
    inside = smoothstep(1.15, 0.8, np.abs(across - sway) / half) * ((up > 0) & (up < 1))
    return over(picture, gradient(LEAF, np.clip(across / wide, -1, 1)), inside)


def flow(rng: np.random.Generator, x: Field, y: Field, lines: list[Field]) -> Field:
    """Return the strokes' direction (radians) everywhere: wind, swirls, slopes, growth."""
    wander = noise(rng, HEIGHT, WIDTH, cells=(3, 3), octaves=2)
    u, v = np.cos(0.35 * wander), np.sin(0.35 * wander) - 0.10
    for across, down, radius, turn in (*VORTICES, (*MOON, 0.13, 1.0)):
        dx, dy = x - across, y - down
        distance = np.hypot(dx, dy) + 1e-3
        strength = 3.2 * turn * np.exp(-(distance**2) / (1.5 * radius**2)) / distance
        u, v = u - strength * dy, v + strength * dx
    for number, line in enumerate(lines):
        slope = (np.gradient(line) * HEIGHT)[None, :] + (0.075 + 0.175 * number) * wander
        below = smoothstep(0.0, 0.01, y - line[None, :])
        u, v = u + below * (1 - u), v + below * (slope - v)
    for across, foot, tall, wide in POPLARS:
        up = (foot - y) / tall
        inside = smoothstep(1.3, 1.0, np.abs(x - across) / wide) * ((up > 0) & (up < 1))
        rise = np.arctan2(-1.0, 0.5 * (x - across) / wide)
        u, v = u + inside * (np.cos(rise) - u), v + inside * (np.sin(rise) - v)
    angle: Field = np.arctan2(v, u).astype(np.float32)
    return angle
