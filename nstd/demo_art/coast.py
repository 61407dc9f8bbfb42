"""What people have put on the bay: a lighthouse on its headland, and sailing boats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nstd.demo_art.field import Field, Sketch, box, noise, over, ridge, shift, smoothstep

BOATS = ((0.70, 0.640, 0.13), (0.845, 0.592, 0.055), (1.29, 0.600, 0.07))
"""Place across, water line, and size, in heights of the picture."""


def headland(
    rng: np.random.Generator, x: Field, y: Field, horizon: float
) -> Callable[[Field], Field]:
    """Return what lays a rocky headland with a lighthouse and its keeper's house into the bay."""
    height, width = x.shape
    line = ridge(rng, width, level=0.0, swing=0.006, cells=14.0)[None, :]
    top = horizon + 0.042 - 0.150 * np.exp(-(((x - 0.16) / 0.24) ** 2)) + line
    foot = horizon + 0.034 + 0.022 * np.exp(-(((x - 0.05) / 0.30) ** 2)) + 0.3 * line
    alpha = np.clip((y - top) * height + 0.5, 0, 1) * np.clip((foot - y) * height + 0.5, 0, 1)
    rock = noise(rng, height, width, cells=(16, 18), octaves=6, gain=0.62)
    light = shift(rock, 2, 3) - rock
    tone = np.array([0.040, 0.038, 0.040], np.float32) * (1 + 0.16 * rock[..., None])
    warm = np.clip(0.05 - light, 0, 1)[..., None] * np.array([0.20, 0.105, 0.055], np.float32)
    turf = smoothstep(0.050, 0.0, y - top + 0.010 * rock)[..., None]
    green = np.array([0.040, 0.060, 0.026], np.float32) * (1 + 0.35 * rock[..., None])
    body = tone + warm + turf * (green - tone - 0.6 * warm)
    near = slice(int(height * 0.08), int(height * 0.50)), slice(0, int(height * 0.40))

    def lay(picture: Field) -> Field:
        picture = picture.copy()
        picture[near] = _house(_lighthouse(picture[near], x[near], y[near]), x[near], y[near])
        return over(picture, body, alpha)

    return lay


def _lighthouse(view: Field, x: Field, y: Field) -> Field:
    middle, base, height = 0.185, 0.462, 0.185
    lamp = base - height - 0.023
    up = (base - y) / height  # 0 at the foot, 1 at the gallery
    half = 0.0150 - 0.0050 * up
    side = (x - middle) / half
    bands = smoothstep(-0.12, 0.12, np.sin(up * 15.5 + 0.6))[..., None]
    red, white = np.array([0.37, 0.055, 0.038]), np.array([0.50, 0.40, 0.33])
    round_ = 0.30 + 0.85 * smoothstep(-1.1, 1.2, side)[..., None]  # round, the sun to its right
    tower = _rectangle(x - middle, y - (base - height / 2), half, height / 2)
    view = over(view, (red + bands * (white - red)) * round_, tower)
    for low, tall, wide, colour in (
        (0.000, 0.010, 0.0135, (0.05, 0.045, 0.05)),
        (0.010, 0.026, 0.0078, (1.6, 1.25, 0.70)),
        (0.036, 0.016, 0.0095, (0.32, 0.055, 0.045)),
    ):
        level = base - height - low - tall / 2
        roof = np.clip((level + tall / 2 - y) / tall, 0, 1) if low > 0.03 else 0.0
        view = over(
            view, colour, _rectangle(x - middle, y - level, wide * (1 - 0.9 * roof), tall / 2)
        )
    for bar in (-0.0045, 0.0035):
        view = over(view, (0.06, 0.05, 0.05), _rectangle(x - middle - bar, y - lamp, 0.0008, 0.013))
    glow = np.exp(-np.hypot(x - middle, y - lamp) / 0.022)[..., None]
    lit: Field = view + glow * np.array([0.55, 0.40, 0.20], np.float32)
    return lit


def _house(view: Field, x: Field, y: Field) -> Field:
    left, foot = 0.252, 0.487
    view = over(view, (0.40, 0.33, 0.30), _rectangle(x - left, y - (foot - 0.014), 0.030, 0.016))
    slope = 0.034 - np.clip(foot - 0.030 - y, 0, 1) * 0.8
    chimney = _rectangle(x - (left + 0.018), y - (foot - 0.060), 0.0035, 0.012)
    view = over(view, (0.14, 0.060, 0.055), _rectangle(x - left, y - (foot - 0.042), slope, 0.013))
    for offset in (-0.016, 0.0, 0.016):
        window = _rectangle(x - left - offset, y - (foot - 0.016), 0.0042, 0.0055)
        view = over(view, (1.5, 0.95, 0.40), window)
    return over(view, (0.10, 0.07, 0.07), chimney)


def _rectangle(across: Field, down: Field, half_width: Field | float, half_height: float) -> Field:
    scale = 1 / float(down[1, 0] - down[0, 0])
    return box(across, half_width, scale) * box(down, half_height, scale)


def boats(picture: Field) -> Field:
    """Put sailing boats on the water, with masts, stays and their reflections."""
    picture = picture.copy()
    height = picture.shape[0]
    for place, level, size in BOATS:
        left, right = round((place - 0.6 * size) * height), round((place + 0.7 * size) * height)
        top, foot = round((level - 1.5 * size) * height), round((level + 1.5 * size) * height)
        view = picture[top:foot, left:right]
        view[:] = _boat(view, place * height - left, level * height - top, size * height)
    return picture


def _boat(view: Field, place: float, level: float, size: float) -> Field:
    """Draw one boat into its part of the picture; lengths in pixels."""
    hull, sails, rig = (Sketch(view.shape[0], view.shape[1], 4) for _ in range(3))

    def at(u: float, v: float) -> tuple[float, float]:
        return place + u * size, level - v * size

    hull.polygon([at(-0.42, 0.10), at(0.50, 0.12), at(0.36, -0.04), at(-0.34, -0.04)])
    sails.polygon([at(0.03, 1.28), at(0.03, 0.20), at(-0.40, 0.20), at(-0.22, 0.62)])
    sails.polygon([at(0.07, 1.12), at(0.08, 0.20), at(0.46, 0.17)], 215)
    thick = size / 60
    rig.line([at(0.05, 0.08), at(0.05, 1.36)], thick)
    rig.line([at(0.05, 1.34), at(0.50, 0.12)], thick / 2)
    rig.line([at(0.05, 1.34), at(-0.42, 0.12)], thick / 2)
    across = (np.arange(view.shape[1], dtype=np.float32) - place)[:, None] / size
    light = 0.60 + 0.34 * np.sin(across * 5.5 + 0.9)  # the low sun shines through the edges
    cloth = np.array([0.80, 0.50, 0.33], np.float32) * light  # (w, 3)
    dark = np.array([0.040, 0.032, 0.042], np.float32)
    parts = [(hull.mask(), dark), (sails.mask(), cloth), (rig.mask(), dark)]
    return _with_reflection(view, parts, round(level))


def _with_reflection(view: Field, parts: list[tuple[Field, Field]], line: int) -> Field:
    rows = np.arange(view.shape[0])
    below = np.clip(rows - line, 0, None)
    source = np.clip(line - below, 0, None)
    sway = np.sin(rows * 0.9) * 1.6 + np.sin(rows * 0.37) * below / 20
    columns = np.arange(view.shape[1])[None, :] + np.round(sway).astype(int)[:, None]
    columns = np.clip(columns, 0, view.shape[1] - 1)
    fade = (below > 0) * np.exp(-below / 62.0) * (0.70 + 0.30 * np.sin(rows * 1.7))
    for mask, colour in parts:
        mirrored = mask[source[:, None], columns] * fade[:, None]
        view = over(view, colour * 0.7, np.asarray(mirrored, np.float32))
    for mask, colour in parts:
        view = over(view, colour, mask)
    return view
