"""The near shore that frames the view: earth, grass, and a wind-bent pine."""

from __future__ import annotations

import numpy as np

from nstd.demo_art.field import Field, Sketch, blur, noise, over, ridge, shift, smoothstep

Point = tuple[float, float]

TREE = 12
"""Seed of the pine alone: one that stands well."""


def lay(rng: np.random.Generator, picture: Field, x: Field, y: Field) -> Field:
    """Lay the shore along the lower border, and a pine on its right."""
    height, width = x.shape
    line = ridge(rng, width, level=0.985, swing=0.010, cells=9.0)[None, :]
    top = line - 0.15 * smoothstep(0.75, 1.5, x) - 0.05 * smoothstep(0.5, 0.0, x)
    soil = noise(rng, height, width, cells=(40, 60), octaves=5, gain=0.7)
    earth = np.array([0.016, 0.019, 0.013], np.float32) * (1 + 0.30 * soil[..., None])
    picture = over(picture, earth, np.clip((y - top) * height + 0.5, 0, 1))
    picture = over(picture, (0.026, 0.026, 0.012), _grass(rng, top[0] * height, height))
    return _pine(np.random.default_rng(TREE), picture)


def _grass(rng: np.random.Generator, ground: Field, height: int) -> Field:
    """Return a mask of blades that the wind leans to the left."""
    sketch = Sketch(height, len(ground), 2)
    for _ in range(850):
        root = rng.uniform(0, len(ground))
        foot = float(ground[int(root)]) + rng.uniform(0, 36)
        tall, lean = rng.gamma(3.0, 6.2) + 5, rng.normal(-6, 5)
        blade = [(root, foot), (root + lean * 0.3, foot - tall * 0.6), (root + lean, foot - tall)]
        sketch.line(blade, rng.uniform(0.5, 1.6), int(rng.uniform(120, 255)))
    return sketch.mask()


def _pine(rng: np.random.Generator, picture: Field) -> Field:
    height, width = picture.shape[:2]
    wood, needles = Sketch(height, width, 2), Sketch(height, width, 2)
    tips: list[Point] = []
    root = width * 0.955, height * 0.91
    _branch(rng, wood, tips, root, angle=-1.80, length=height * 0.18, thick=height * 0.023, left=6)
    for u, v in tips:
        for _ in range(2):
            _tuft(rng, needles, u + rng.normal(0, 8), v + rng.normal(0, 3))
    picture = over(picture, (0.016, 0.012, 0.011), wood.mask())
    leaf = needles.mask()
    soft = blur(leaf, 6)
    lit = np.clip(soft - shift(soft, 6, -10), 0, 1)[..., None]  # the side towards the sun
    green, gold = np.array([0.011, 0.021, 0.013]), np.array([0.13, 0.065, 0.016])
    return over(picture, green + lit * gold, leaf)


def _tuft(rng: np.random.Generator, needles: Sketch, u: float, v: float) -> None:
    """Draw a flat spray of needles."""
    for angle, length in zip(rng.uniform(-3.3, 0.15, 16), rng.uniform(3, 8.5, 16), strict=True):
        end = (u + np.cos(angle) * length * 1.25, v + np.sin(angle) * length * 0.75)
        needles.line([(u, v), end], 1)


def _branch(
    rng: np.random.Generator,
    wood: Sketch,
    tips: list[Point],
    start: Point,
    *,
    angle: float,
    length: float,
    thick: float,
    left: int,
) -> None:
    """Draw a branch and, ``left`` times over, those that leave it; collect where needles grow."""
    u, v = start
    for _ in range(6):
        angle += rng.normal(0.015 * np.sign(angle + 1.5), 0.07)
        after = (u + np.cos(angle) * length / 6, v + np.sin(angle) * length / 6)
        wood.line([(u, v), after], thick)
        wood.dot(after, thick)
        (u, v), thick = after, thick * 0.95
        if left <= 2:
            tips.append(after)
    if left == 0:
        return
    grown = 0
    for turn in (rng.normal(-0.62, 0.14), rng.normal(-0.02, 0.12), rng.normal(0.58, 0.16)):
        if left < 6 and rng.random() < 0.30 and (grown or turn < 0.2):
            continue
        grown += 1
        bough = angle + turn
        if left < 5:  # a pine's boughs level out: steep ones bend towards the horizontal
            bough -= 0.09 * float(np.sign(np.cos(bough)))
        ratio, thin = rng.uniform(0.56, 0.76), thick * 0.62
        _branch(
            rng, wood, tips, (u, v), angle=bough, length=length * ratio, thick=thin, left=left - 1
        )
