"""What painters do, as textures: brush strokes, hatching, washes, dots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tools.train_builtin.noise import (
    Array,
    Rng,
    blur,
    grid,
    ink,
    jitter,
    palette,
    relief,
    spectrum,
)

Recipe = Callable[[Rng, int], Array]


@dataclass(frozen=True)
class Stroke:
    """One touch of the brush."""

    at: tuple[float, float]  # row, column
    turn: float
    length: float
    width: float
    colour: Array
    bristles: int


Pens = tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw]


def strokes(rule: Rng) -> Recipe:
    """Brushwork: short strokes along a flow, in layers, with bristles and thick paint."""
    length, width = rule.uniform(5, 26), rule.uniform(1.0, 5.0)
    flow, bend = int(rule.integers(4)), rule.uniform(0, 2.5)
    base, spread = rule.uniform(0, np.pi), rule.choice([0.05, 0.25, 0.8])
    bristles, thick = int(rule.integers(1, 4)), rule.choice([0.0, 1.5, 4.0])
    colours, patchy = palette(rule, rule.integers(3, 8)), rule.random() < 0.5

    def draw(rng: Rng, size: int) -> Array:
        angle = flow_field(rng, size, flow, base, bend)
        run = spectrum(rng, size, 2.0)
        place = (np.clip((run + 2) / 4, 0, 0.999) * len(colours)).astype(int)
        image = Image.new("RGB", (size, size), ink(colours[0]))
        height = Image.new("L", (size, size), 90)
        pens = ImageDraw.Draw(image), ImageDraw.Draw(height)
        count = int(min(1500, 3.5 * size * size / (length * width)))
        for cy, cx in rng.uniform(0, size - 1e-3, (count, 2)):
            index = place[int(cy), int(cx)] if patchy else rng.integers(len(colours))
            turn = angle[int(cy), int(cx)] + spread * rng.standard_normal()
            touch = Stroke((cy, cx), turn, length, width, colours[index], bristles)
            stroke(rng, pens, touch, angle)
        shine = blur(np.asarray(height, np.float32) / 255, 0.6)
        picture = np.asarray(image, np.float32) / 255
        return relief(picture, shine, thick, 0.8) if thick else picture

    return draw


def flow_field(rng: Rng, size: int, kind: int, base: float, bend: float) -> Array:
    """Return (size, size) angles: parallel, wavy, swirling around points, or along noise."""
    y, x = grid(size)
    if kind == 0:
        return np.full((size, size), base, np.float32)
    if kind == 1:
        return base + bend * 0.6 * np.sin(2 * np.pi * (x + y) / rng.uniform(40, 120))
    if kind == 2:
        total = np.zeros((size, size), complex)
        for cy, cx in rng.uniform(0, size, (4, 2)):
            away = np.hypot(y - cy, x - cx) + 8
            total += rng.choice([-1, 1]) * np.exp(1j * np.arctan2(x - cx, -(y - cy))) / away
        return np.angle(total).astype(np.float32)
    return base + bend * spectrum(rng, size, 2.5)


def stroke(rng: Rng, pens: Pens, touch: Stroke, angle: Array) -> None:
    """Draw a stroke bent along the flow ``angle``, and its height into the second pen."""
    (cy, cx), turn, width, bristles = touch.at, touch.turn, touch.width, touch.bristles
    half = 0.5 * touch.length * rng.uniform(0.6, 1.3)
    rng.standard_normal()  # unused: it keeps the stream of the images that the shipped file saw
    size = len(angle)
    ahead = angle[  # the flow's direction half a stroke on
        int(np.clip(cy + half * np.sin(turn), 0, size - 1)),
        int(np.clip(cx + half * np.cos(turn), 0, size - 1)),
    ]
    bow = half * 0.5 * float(np.clip(np.sin(ahead - turn), -0.7, 0.7))
    along, across = (np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))
    part = max(1, round(width / bristles))
    level = int(rng.integers(60, 255))
    red, green, blue = ink(touch.colour)
    for index, shift in enumerate((13 * rng.standard_normal(bristles)).astype(int).tolist()):
        off = (index - (bristles - 1) / 2) * width / bristles
        points = [
            (cx + t * along[0] + (off + b) * across[0], cy + t * along[1] + (off + b) * across[1])
            for t, b in ((-half, 0.0), (0.0, -bow * 0.3), (half, bow))
        ]
        tone = (red + shift, green + shift, blue + shift)
        fill = (min(255, max(0, tone[0])), min(255, max(0, tone[1])), min(255, max(0, tone[2])))
        pens[0].line(points, fill=fill, width=part)
        pens[1].line(points, fill=max(0, level - 50 * (index % 2)), width=part)


def hatching(rule: Rng) -> Recipe:
    """Pen and crayon: families of parallel lines on paper, crossing in the dark."""
    turns, gap = rule.uniform(0, np.pi, 3), rule.uniform(3, 9)
    shake, families = rule.uniform(0, 0.25), int(rule.integers(1, 4))
    paper, pencil = palette(rule, 2)[1] * 0.3 + 0.7, palette(rule, 3)
    if rule.random() < 0.3:
        paper, pencil = pencil[0] * 0.4, pencil * 0.4 + 0.6
    width, length = int(rule.integers(1, 3)), rule.uniform(10, 60)

    def draw(rng: Rng, size: int) -> Array:
        image = Image.new("RGB", (size, size), ink(paper))
        pen, dark = ImageDraw.Draw(image), spectrum(rng, size, 2.2)
        for family in range(families):
            count = int(min(1500, 2.5 * size * size / (gap * length)))
            for cy, cx in rng.uniform(0, size - 1e-3, (count, 2)):
                if dark[int(cy), int(cx)] > 0.8 - 0.9 * family:
                    turn = turns[family] + shake * rng.standard_normal()
                    dx, dy = length / 2 * np.cos(turn), length / 2 * np.sin(turn)
                    colour = ink(jitter(rng, pencil[family], 0.05))
                    pen.line([(cx - dx, cy - dy), (cx + dx, cy + dy)], fill=colour, width=width)
        return np.asarray(image, np.float32) / 255

    return draw


def washes(rule: Rng) -> Recipe:
    """Watercolour: translucent pools over each other, dark rims, paper grain."""
    power, layers = rule.uniform(1.8, 2.6), int(rule.integers(2, 7))
    rim, grain = rule.uniform(0, 0.5), rule.uniform(0, 0.08)
    colours, cover = rule.permutation(0.35 + 0.65 * palette(rule, 8)), rule.uniform(0.25, 0.7)

    def draw(rng: Rng, size: int) -> Array:
        image = np.ones((size, size, 3), np.float32) * 0.95
        for index in range(layers):
            pool = spectrum(rng, size, power) - rng.uniform(-0.5, 0.8)
            wet = 1 / (1 + np.exp(np.clip(-10 * pool, -30, 30)))
            edge = rim * np.exp(-((pool * 6 - 0.6) ** 2))
            tone = (cover * wet + edge * wet)[..., None]
            image = image * (1 - tone * (1 - jitter(rng, colours[index], 0.03)))
        return np.clip(image + grain * spectrum(rng, size, 0.3)[..., None], 0, 1)

    return draw


def dots(rule: Rng) -> Recipe:
    """Pointillism, halftone, spatter: round spots, placed in rows or by chance."""
    radius, jitter_at = rule.uniform(1.2, 5.0), rule.choice([0.0, 0.3, 1.0])
    colours, vary = palette(rule, rule.integers(3, 8)), rule.uniform(0, 0.6)
    density = rule.uniform(0.5, 2.0)

    def draw(rng: Rng, size: int) -> Array:
        image = Image.new("RGB", (size, size), ink(colours[0]))
        pen = ImageDraw.Draw(image)
        pitch = max(2.2, 2 * radius / density)
        rows = np.stack(np.meshgrid(*[np.arange(0, size, pitch)] * 2), -1).reshape(-1, 2)
        rows = rng.permutation(rows + jitter_at * pitch * rng.standard_normal(rows.shape))
        tone = (np.clip((spectrum(rng, size, 1.8) + 2) / 4, 0, 0.999) * len(colours)).astype(int)
        for x, y in rows:
            index = tone[int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))]
            r = radius * (1 + vary * rng.standard_normal()) * (0.6 + 0.1 * index)
            if r > 0.3:
                pen.ellipse(
                    [x - r, y - r, x + r, y + r], fill=ink(jitter(rng, colours[index], 0.06))
                )
        return np.asarray(image, np.float32) / 255

    return draw
