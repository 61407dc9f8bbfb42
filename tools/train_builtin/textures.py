"""Procedural textures: a recipe is a class, drawn anew for every exemplar.

A recipe's own random stream decides what is characteristic (kind, scale, direction, palette); the
exemplar's stream decides the rest. Telling hundreds of recipes apart by spatial averages alone is
what makes averages of features (Gram matrices, means, covariances) describe a texture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tools.train_builtin.brushwork import Recipe, dots, hatching, strokes, washes
from tools.train_builtin.noise import (
    Array,
    Rng,
    as_float,
    gradient_map,
    grid,
    ink,
    jitter,
    palette,
    spectrum,
)


def shaped_noise(rule: Rng) -> Recipe:
    """Clouds, marble, fur: noise of one spectrum through a run of colours."""
    power, band = rule.uniform(0.3, 2.2), rule.choice([0.0, rule.uniform(4, 30)])
    angle, stretch = rule.uniform(0, np.pi), rule.choice([1.0, 2.0, 4.0])
    colours, folded = palette(rule, rule.integers(2, 6)), rule.random() < 0.3

    def draw(rng: Rng, size: int) -> Array:
        field = spectrum(rng, size, power, band, (angle, stretch))
        return gradient_map(-np.abs(field) if folded else field, jitter(rng, colours, 0.03))

    return draw


def contours(rule: Rng) -> Recipe:
    """Camouflage, maps, wood: noise cut into flat steps, sometimes with dark edges."""
    power, steps = rule.uniform(1.0, 2.5), int(rule.integers(2, 9))
    band, outline = rule.choice([0.0, rule.uniform(3, 14)]), rule.random() < 0.4
    angle, stretch = rule.uniform(0, np.pi), rule.choice([1.0, 3.0])
    colours = palette(rule, steps + 1)

    def draw(rng: Rng, size: int) -> Array:
        field = spectrum(rng, size, power, band, (angle, stretch))
        level = np.clip(((field + 2.2) / 4.4 * steps).astype(int), 0, steps)
        image = jitter(rng, colours, 0.03)[level]
        if outline:
            edge = (np.diff(level, axis=0, append=level[-1:]) != 0) | (
                np.diff(level, axis=1, append=level[:, -1:]) != 0
            )
            image = image * np.where(edge, 0.25, 1.0)[..., None]
        return as_float(image)

    return draw


def gratings(rule: Rng) -> Recipe:
    """Stripes, checks, ripples: one or two waves, bent by noise."""
    waves = int(rule.integers(1, 3))
    angles, periods = rule.uniform(0, np.pi, 2), rule.uniform(4, 28, 2)
    bend, sharp = rule.choice([0.0, 2.0, 6.0, 12.0]), rule.choice([1.0, 3.0, 20.0])
    radial, colours = rule.random() < 0.25, palette(rule, rule.integers(2, 5))

    def draw(rng: Rng, size: int) -> Array:
        y, x = grid(size)
        dy, dx = bend * spectrum(rng, size, 2.2), bend * spectrum(rng, size, 2.2)
        if radial:
            cy, cx = rng.uniform(-0.3, 1.3, 2) * size
            field = np.sin(2 * np.pi * np.hypot(y + dy - cy, x + dx - cx) / periods[0])
        else:
            field = np.ones((size, size), np.float32)
            for angle, period in zip(angles[:waves], periods, strict=False):
                along = (x + dx) * np.cos(angle) + (y + dy) * np.sin(angle)
                field = field * np.sin(2 * np.pi * (along / period + rng.random()))
        return gradient_map(np.tanh(sharp * field), jitter(rng, colours, 0.03))

    return draw


def leaves(rule: Rng) -> Recipe:
    """Dead leaves (Lee, Mumford & Huang 2001): shapes over shapes, as objects hide objects."""
    shape, shaded = int(rule.integers(5)), rule.random() < 0.5
    small, large = rule.uniform(2, 6), rule.uniform(8, 30)
    aspect, angle = rule.choice([1.0, 0.5, 0.25]), rule.uniform(0, np.pi)
    spread, outline = rule.choice([0.1, np.pi]), rule.random() < 0.3
    colours = palette(rule, rule.integers(3, 8))

    def draw(rng: Rng, size: int) -> Array:
        image = Image.new("RGB", (size, size), ink(colours[0]))
        pen = ImageDraw.Draw(image)
        count = int(min(900, 4 * size * size / (small * large * aspect)))
        radii = small * (large / small) ** (rng.random(count) ** 1.5)
        for radius in np.sort(radii)[::-1] if rng.random() < 0.5 else radii:
            centre, turn = rng.uniform(0, size, 2), angle + spread * rng.standard_normal()
            colour = jitter(rng, colours[rng.integers(len(colours))], 0.04)
            polygon(pen, Leaf(shape, radius, aspect, turn), centre, colour, outline=outline)
            if shaded:
                lit = np.clip(colour * 1.35 + 0.05, 0, 1)
                small_leaf = Leaf(shape, radius * 0.5, aspect, turn)
                polygon(pen, small_leaf, centre - 0.25 * radius, lit)
        return np.asarray(image, np.float32) / 255

    return draw


@dataclass(frozen=True)
class Leaf:
    """A shape's outline: disc, box, triangle, star or ring (``shape`` 0 to 4)."""

    shape: int
    radius: float
    aspect: float
    turn: float


def polygon(
    pen: ImageDraw.ImageDraw, leaf: Leaf, centre: Array, colour: Array, *, outline: bool = False
) -> None:
    """Draw a leaf of one colour around ``centre`` (row, column)."""
    shape, radius, aspect, turn = leaf.shape, leaf.radius, leaf.aspect, leaf.turn
    corners = (14, 4, 3, 10, 14)[shape]
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = np.where(np.arange(corners) % 2, 0.45, 1.0) if shape == 3 else np.ones(corners)
    u, v = radius * reach * np.cos(angle), radius * aspect * reach * np.sin(angle)
    x = centre[1] + u * np.cos(turn) - v * np.sin(turn)
    y = centre[0] + u * np.sin(turn) + v * np.cos(turn)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    dark = ink(colour * 0.3)
    if shape == 4:
        pen.line([*points, points[0]], fill=ink(colour), width=max(1, int(radius / 3)))
    else:
        pen.polygon(points, fill=ink(colour), outline=dark if outline else None)


def cells(rule: Rng) -> Recipe:
    """Stones, scales, craquelure: Voronoi cells with seams."""
    pitch, seam = rule.uniform(6, 26), rule.choice([0.0, 0.8, 2.0])
    order, soft = rule.choice([0.1, 0.5, 1.0]), rule.random() < 0.5
    aspect, crackle = rule.choice([1.0, 0.5]), rule.random() < 0.25
    colours = palette(rule, rule.integers(2, 7))

    def draw(rng: Rng, size: int) -> Array:
        rows = np.arange(-pitch, size + pitch, pitch * aspect)
        columns = np.arange(-pitch, size + pitch, pitch)
        at = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
        at[1::2, :, 1] += pitch / 2
        at = (at + order * pitch * 0.6 * rng.standard_normal(at.shape)).reshape(-1, 2)
        first, second, which = nearest_two(at, size, aspect)
        inks = jitter(rng, colours[rng.integers(len(colours), size=len(at))], 0.04)
        base = gradient_map(spectrum(rng, size, 2.0), colours) if crackle else inks[which]
        if soft:
            base = base * (1.15 - 0.5 * first / pitch)[..., None]
        gap = np.clip((second - first) / (seam + 0.3), 0.15, 1) if seam else np.ones_like(first)
        return as_float(np.clip(base * gap[..., None], 0, 1))

    return draw


def nearest_two(at: Array, size: int, aspect: float) -> tuple[Array, Array, Array]:
    """Return the distances to the nearest and next point, and which is nearest, per pixel."""
    y, x = grid(size)
    first = np.full((size, size), 1e9, np.float32)
    second, which = first.copy(), np.zeros((size, size), int)
    reach = 60
    for index, (cy, cx) in enumerate(at):
        top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
        window = np.s_[top : max(top, int(cy) + reach), left : max(left, int(cx) + reach)]
        d = np.hypot((y[window] - cy) / aspect, x[window] - cx)
        near = d < first[window]
        second[window] = np.where(near, first[window], np.minimum(second[window], d))
        first[window] = np.where(near, d, first[window])
        which[window][near] = index
    return first, second, which


def masonry(rule: Rng) -> Recipe:
    """Bricks, windows, tiles, cloth: boxes in rows with joints and a little light."""
    height, width = rule.uniform(4, 18), rule.uniform(6, 34)
    offset, joint = rule.choice([0.0, 0.5]), rule.uniform(0.6, 3)
    turn, lit = rule.choice([0.0, rule.uniform(-0.6, 0.6)]), rule.uniform(-0.6, 0.6)
    colours, grain = palette(rule, rule.integers(2, 6)), rule.uniform(0, 0.15)

    def draw(rng: Rng, size: int) -> Array:
        y, x = grid(size)
        u = x * np.cos(turn) + y * np.sin(turn) + 500 + rng.uniform(0, width)
        v = y * np.cos(turn) - x * np.sin(turn) + 500 + rng.uniform(0, height)
        row = (v // height).astype(int)
        u = u + offset * width * (row % 2)
        column = (u // width).astype(int)
        table = rng.integers(len(colours), size=(97, 89))
        image = jitter(rng, colours, 0.03)[table[row % 97, column % 89]]
        inside = np.minimum(np.minimum(u % width, width - u % width), v % height) / joint
        shade = 1 + lit * ((v % height) / height - 0.5) + grain * spectrum(rng, size, 0.8)
        return as_float(np.clip(image * (np.clip(inside, 0.3, 1) * shade)[..., None], 0, 1))

    return draw


def threads(rule: Rng) -> Recipe:
    """Branches, cables, cracks, hair: long thin lines over a quiet ground."""
    count, step = int(rule.integers(8, 60)), rule.uniform(3, 8)
    wander, width = rule.uniform(0.02, 0.5), int(rule.integers(1, 4))
    base, spread = rule.uniform(0, np.pi), rule.choice([0.1, 0.6, 3.0])
    colours = palette(rule, 5)
    dark = rule.random() < 0.5

    def draw(rng: Rng, size: int) -> Array:
        ground = gradient_map(spectrum(rng, size, 2.5), colours[2:] if dark else colours[:3])
        image = Image.fromarray((ground * 255).astype(np.uint8))
        pen = ImageDraw.Draw(image)
        for _ in range(count):
            turns = (
                base + spread * rng.standard_normal() + np.cumsum(wander * rng.standard_normal(30))
            )
            start = rng.uniform(-0.2, 1.2, 2) * size
            x = start[0] + np.cumsum(step * np.cos(turns))
            y = start[1] + np.cumsum(step * np.sin(turns))
            colour = ink(jitter(rng, colours[0 if dark else 4], 0.05))
            pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=width)
        return np.asarray(image, np.float32) / 255

    return draw


def patchwork(rule: Rng) -> Recipe:
    """Lichen on stone, paint over paint, figure and ground: one recipe over another."""
    over, under = (recipe_of(rule, int(rule.integers(len(FAMILIES) - 1))) for _ in range(2))
    power, cut, soft = rule.uniform(1.2, 2.6), rule.uniform(-0.6, 0.6), rule.choice([3.0, 30.0])

    def draw(rng: Rng, size: int) -> Array:
        field = np.clip(soft * (spectrum(rng, size, power) - cut), -30, 30)
        share = (1 / (1 + np.exp(-field)))[..., None]
        return as_float(share * over(rng, size) + (1 - share) * under(rng, size))

    return draw


FAMILIES: tuple[Callable[[Rng], Recipe], ...] = (
    shaped_noise,
    contours,
    gratings,
    leaves,
    cells,
    strokes,
    hatching,
    washes,
    dots,
    masonry,
    threads,
    strokes,  # twice: what painters do is what we must tell apart best
    patchwork,  # the last: it is made of the others
)


def recipe_of(rule: Rng, family: int) -> Recipe:
    """Return a recipe of one family, its rule from ``rule``."""
    return FAMILIES[family](rule)


def recipe(seed: int, number: int) -> Recipe:
    """Return the recipe of class ``number``: its family goes round, its rule is its own."""
    rule = np.random.default_rng([seed, 1, number])
    return recipe_of(rule, number % len(FAMILIES))


def texture(seed: int, number: int, exemplar: int, size: int) -> Array:
    """Return one (size, size, 3) exemplar in [0, 1] of class ``number``."""
    rng = np.random.default_rng([seed, 2, number, exemplar])
    return np.clip(recipe(seed, number)(rng, size), 0, 1)
