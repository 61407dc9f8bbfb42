"""A photograph-like scene: a bay at dusk, with a lighthouse, boats, and a pine on the shore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstd.demo_art import coast, shore
from nstd.demo_art.field import (
    Colour,
    Field,
    blur,
    gradient,
    grid,
    noise,
    over,
    ridge,
    shift,
    smoothstep,
    to_srgb,
)

HEIGHT, WIDTH = 640, 960
HORIZON = 0.56
SUN = (1.02, 0.525)

SKY: list[tuple[float, Colour]] = [
    (0.00, (0.035, 0.075, 0.22)),
    (0.20, (0.085, 0.16, 0.36)),
    (0.34, (0.25, 0.27, 0.44)),
    (0.44, (0.60, 0.40, 0.40)),
    (0.51, (0.95, 0.52, 0.27)),
    (0.56, (1.05, 0.70, 0.32)),
]
"""Down the picture, from the zenith's blue to the glow at the horizon."""


def photograph(seed: int = 7) -> NDArray[np.uint8]:
    """Return the scene as (640, 960, 3) sRGB; the same seed gives the same picture."""
    rng = np.random.default_rng(seed)
    x, y = grid(HEIGHT, WIDTH)
    headland = coast.headland(rng, x, y, HORIZON)
    picture = _hills(rng, _sky(rng, x, y), x, y)
    picture = headland(_water(rng, headland(picture), x, y))  # the first one is for its reflection
    picture = shore.lay(rng, coast.boats(picture), x, y)
    return _lens(rng, picture, x, y)


def _sky(rng: np.random.Generator, x: Field, y: Field) -> Field:
    distance = np.hypot(x - SUN[0], (y - SUN[1]) * 1.25)
    sky = gradient(SKY, y)
    sky += np.exp(-distance / 0.16)[..., None] * np.array([0.75, 0.42, 0.14], np.float32)
    sky += np.exp(-((distance / 0.03) ** 2))[..., None] * np.array([2.5, 1.9, 1.0], np.float32)
    return _clouds(rng, sky, y)


def _clouds(rng: np.random.Generator, sky: Field, y: Field) -> Field:
    """Lay two decks over the sky, lit from below by the sun at their near edges."""
    for cells, low, high, reach in (((7, 3), 0.15, 1.9, 1.0), ((22, 5), 0.5, 2.2, 0.7)):
        density = noise(rng, HEIGHT, WIDTH, cells=cells, octaves=6, gain=0.52)
        above = shift(density, -9, 14)  # what lies between a spot and the sun
        cover = smoothstep(low, high, density) * smoothstep(0.0, 0.10, y) * reach
        cover *= 1 - smoothstep(HORIZON - 0.10, HORIZON, y)
        lit = smoothstep(-0.6, 0.9, density - above)
        warm = gradient(
            [(0.0, (0.30, 0.24, 0.36)), (0.3, (0.95, 0.42, 0.36)), (0.55, (1.35, 0.72, 0.34))], y
        )
        shade = gradient(
            [(0.0, (0.06, 0.10, 0.23)), (0.3, (0.20, 0.18, 0.30)), (0.55, (0.50, 0.30, 0.28))], y
        )
        colour = shade + lit[..., None] * (warm - shade)
        sky = over(sky, colour, cover * 0.85)
    return sky


def _hills(rng: np.random.Generator, picture: Field, x: Field, y: Field) -> Field:
    """Lay ridges one before the other, each less hazy than the last."""
    ridges: list[tuple[float, float, float, Colour, Colour]] = [
        (0.478, 0.018, 3.0, (0.42, 0.30, 0.38), (0.72, 0.46, 0.36)),
        (0.508, 0.016, 4.0, (0.22, 0.19, 0.29), (0.45, 0.31, 0.31)),
        (0.536, 0.011, 6.0, (0.085, 0.095, 0.15), (0.20, 0.17, 0.20)),
    ]
    for number, (level, swing, cells, colour, mist) in enumerate(ridges):
        line = ridge(rng, WIDTH, level=level, swing=swing, cells=cells)
        gap = np.exp(-(((x[0] - SUN[0]) / 0.22) ** 2))  # the hills open towards the sun
        line = line + gap * (HORIZON + 0.012 - line) * (1.0 if number < 2 else 0.75)
        depth = (y - line[None, :]) * HEIGHT
        alpha = np.clip(depth + 0.5, 0, 1)
        wood = noise(rng, HEIGHT, WIDTH, cells=(60, 60), octaves=4, gain=0.7)
        low = smoothstep(0.0, 55.0, depth)[..., None]
        body = np.asarray(colour, np.float32) * (1 + 0.10 * wood[..., None] * (number + 1) / 3)
        body = body + low * (np.asarray(mist, np.float32) - body) * 0.75
        picture = over(picture, np.asarray(body, np.float32), np.asarray(alpha, np.float32))
    return picture


def _water(rng: np.random.Generator, picture: Field, x: Field, y: Field) -> Field:
    """Mirror what stands above the horizon, broken by waves that grow towards the viewer."""
    horizon = int(HORIZON * HEIGHT)
    rows = HEIGHT - horizon
    depth = (np.arange(rows, dtype=np.float32) + 0.5) / HEIGHT  # below the horizon
    waves = _waves(rng, depth)
    slope = np.gradient(waves, axis=0)
    reach = (depth * 0.55 + 0.004)[:, None] * HEIGHT
    mirrored = horizon - 1 - depth[:, None] * HEIGHT * 0.92 - (slope * reach * 0.30)
    across = np.arange(WIDTH)[None, :] + slope * reach * 0.10
    row = np.clip(np.round(mirrored), 0, horizon - 1).astype(int)
    column = np.clip(np.round(across), 0, WIDTH - 1).astype(int)
    reflection = picture[row, column]
    facing = np.clip(0.34 + 0.9 * depth[:, None] - 0.10 * slope, 0.1, 0.85)
    body = np.array([0.012, 0.045, 0.075], np.float32)
    water = reflection * (0.93 - 0.5 * facing[..., None]) + body * facing[..., None]
    spread = 0.018 + 0.30 * depth[:, None]
    path = np.exp(-(((x[:rows] - SUN[0]) / spread) ** 2))
    glitter = smoothstep(0.55, 2.1, slope + 0.5 * path) * path
    water += glitter[..., None] * np.array([1.9, 1.15, 0.5], np.float32)
    picture[horizon:] = water
    haze = np.exp(-(((y - HORIZON) / 0.006) ** 2)) * 0.45
    return over(picture, (0.85, 0.55, 0.36), haze)


def _waves(rng: np.random.Generator, depth: Field) -> Field:
    """Return waves (rows, W) whose length shrinks towards the horizon, as perspective has it."""
    far = noise(rng, 900, WIDTH, cells=(90, 10), octaves=4, gain=0.6)
    near = noise(rng, 900, WIDTH, cells=(26, 5), octaves=5, gain=0.55)
    place = np.log1p(depth / 0.012)  # equal steps on the water, nearly
    index = np.clip(place / place[-1] * 899, 0, 899)
    base = np.floor(index).astype(int)
    part = (index - base)[:, None]
    mixed = 0.6 * far + 0.9 * near
    after = np.minimum(base + 1, 899)
    waves = mixed[base] * (1 - part) + mixed[after] * part
    return np.asarray(waves * 2.2, np.float32)


def _lens(rng: np.random.Generator, picture: Field, x: Field, y: Field) -> NDArray[np.uint8]:
    """Return what a camera makes of the light: bloom, a shoulder, a vignette, a little grain."""
    bright = np.clip(picture - 0.9, 0, 3)
    picture = picture + 0.22 * blur(bright, 14) + 0.12 * blur(bright, 50)
    corner = (x - 0.75) ** 2 / 0.75**2 + (y - 0.5) ** 2 / 0.5**2
    picture = picture * (1 - 0.13 * corner)[..., None]
    picture = 1 - np.exp(-1.38 * np.clip(picture, 0, None))
    grain = rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    grain = 0.6 * grain + 0.8 * blur(grain, 2)
    noisy = picture + (0.010 * grain * np.sqrt(np.clip(picture.mean(-1), 0.01, 1)))[..., None]
    return to_srgb(np.asarray(noisy, np.float32))
