"""Procedural scenes: things in front of things, with maps of what stands where, in many media.

A scene is painted from back to front; each thing covers what lies behind it. The same scene can
then be repainted by a painter (``media.py``), while its maps stay: so a network that names the
things must look through the paint, and one that names the painter, at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tools.train_builtin.media import paint, painter, recoloured
from tools.train_builtin.noise import (
    Array,
    Rng,
    gradient_map,
    grid,
    ink,
    jitter,
    palette,
    spectrum,
    to_bytes,
)
from tools.train_builtin.textures import recipe

THINGS = (
    "sky", "lamp", "hill", "ground", "water", "wall", "window", "ball", "foliage", "branch",
    "cable", "figure",
)  # fmt: skip


@dataclass
class Canvas:
    """A scene under construction: colours and, per pixel, the thing and its nearness."""

    rng: Rng
    image: Array  # (size, size, 3) float32 in [0, 1]
    thing: Array  # (size, size) uint8: index into THINGS
    near: Array  # (size, size) float32: 0 far, 1 near
    part: Array  # (size, size) int: which object, for edges
    parts: int = 0

    @property
    def size(self) -> int:
        """The side in pixels."""
        return len(self.thing)

    def cover(self, mask: Array, colours: Array, thing: str, near: float | Array) -> None:
        """Put a thing over what is there, where ``mask`` holds."""
        self.parts += 1
        self.image[mask] = colours[mask] if colours.ndim == 3 else colours
        self.thing[mask] = THINGS.index(thing)
        self.near[mask] = near[mask] if isinstance(near, np.ndarray) else near
        self.part[mask] = self.parts


@dataclass(frozen=True)
class Place:
    """Where and how the next thing stands."""

    near: float  # 0 far, 1 near
    horizon: float  # row of the horizon, pixels
    tint: Array  # (3,) its colour
    sun: float  # -1: light from the left, 1: from the right
    seed: int  # of the textures


def scene(seed: int, index: int, size: int, painters: int) -> tuple[Array, Array, Array, int]:
    """Return scene ``index``: painted, clean and maps (size, size, 3) uint8, and the painter."""
    rng = np.random.default_rng([seed, 3, index])
    canvas = compose(rng, seed, size)
    number = index % painters
    hand = painter(seed, number)
    clean = recoloured(hand, np.clip(canvas.image, 0, 1))
    edge = np.zeros((size, size), bool)
    edge[:-1] |= canvas.part[:-1] != canvas.part[1:]
    edge[:, :-1] |= canvas.part[:, :-1] != canvas.part[:, 1:]
    maps = np.stack([canvas.thing, np.clip(canvas.near, 0, 1) * 255, edge * 255], -1)
    return to_bytes(paint(rng, clean, hand)), to_bytes(clean), maps.astype(np.uint8), number


def compose(rng: Rng, seed: int, size: int) -> Canvas:
    """Return a landscape, a street or a still life, lit from one side."""
    y, _ = grid(size)
    blank = np.zeros((size, size), np.float32)
    canvas = Canvas(rng, np.zeros((size, size, 3), np.float32), blank.astype(np.uint8), blank,
                    np.zeros((size, size), int))  # fmt: skip
    colours = palette(rng, 8)
    horizon = rng.uniform(0.25, 0.75) * size
    sky(canvas, colours)
    for step in range(int(rng.integers(0, 4))):
        hill(canvas, horizon, jitter(rng, colours[rng.integers(8)], 0.1), 0.1 + 0.05 * step)
    floor = y > horizon
    plain(canvas, floor, horizon, colours, seed)
    sun = rng.choice([-1.0, 1.0])
    makers = (building, ball, tree, cables, figure, boxes, slab)
    for near in np.sort(rng.uniform(0.2, 1.0, int(rng.integers(2, 9)))):
        tint = jitter(rng, colours[rng.integers(8)], 0.15)
        place = Place(float(near), horizon, tint, float(sun), seed)
        makers[rng.integers(len(makers))](canvas, place)
    haze = (0.5 * rng.random() * np.clip(0.7 - canvas.near, 0, 1))[..., None]
    canvas.image = canvas.image * (1 - haze) + haze * colours[rng.integers(8)]
    return canvas


def sky(canvas: Canvas, colours: Array) -> None:
    """Fill everything with sky: a gradient, clouds, perhaps lamps or stars with halos."""
    rng, size = canvas.rng, canvas.size
    y, x = grid(size)
    run = gradient_map(y / size + 0.15 * spectrum(rng, size, 2.2), colours[rng.permutation(8)[:3]])
    cloud = np.clip(spectrum(rng, size, 1.8, 0, (0, 2.0)) - rng.uniform(-0.5, 2), 0, 1)[..., None]
    canvas.cover(np.ones((size, size), bool), run * (1 - cloud) + cloud * 0.9, "sky", 0.0)
    for _ in range(int(rng.choice([0, 1, 1, 6]))):
        cy, cx, r = rng.uniform(0, 0.5) * size, rng.uniform(0, size), rng.uniform(1.5, 9)
        away = np.hypot(y - cy, x - cx)
        glow = (0.6 * np.exp(-away / (2 * r)))[..., None]
        canvas.image = canvas.image * (1 - glow) + glow
        canvas.cover(away < r, jitter(rng, np.array([1, 0.95, 0.75]), 0.1), "lamp", 0.05)


def hill(canvas: Canvas, horizon: float, tint: Array, near: float) -> None:
    """Put a ridge on the horizon."""
    rng, size = canvas.rng, canvas.size
    y, _ = grid(size)
    ridge = spectrum(rng, size, rng.uniform(1.2, 2.2))[size // 2] * rng.uniform(2, 12)
    mask = (y > horizon - rng.uniform(2, 30) - ridge) & (y < horizon + 2)
    shade = 1 + 0.15 * spectrum(rng, size, 1.2)
    canvas.cover(mask, tint * shade[..., None], "hill", near)


def plain(canvas: Canvas, floor: Array, horizon: float, colours: Array, seed: int) -> None:
    """Lay ground in perspective, or water that mirrors what stands above it."""
    rng, size = canvas.rng, canvas.size
    y, x = grid(size)
    depth = np.clip((y - horizon) / (size - horizon), 0.02, 1)
    if rng.random() < 0.4:
        ripple = spectrum(rng, size, 1.0, 0, (np.pi / 2, 4.0)) * 3 * depth
        source = np.clip(2 * horizon - y + ripple, 0, size - 1).astype(int)
        mirror = canvas.image[source, x.astype(int)] * rng.uniform(0.4, 0.9)
        tint = colours[rng.integers(8)] * 0.4
        canvas.cover(floor, mirror * 0.75 + 0.25 * tint, "water", depth)
        return
    pattern = recipe(seed, int(rng.integers(10**6)))(rng, size)
    v = (8 / depth).astype(int) % size
    u = ((x - size / 2) * (0.5 / depth) + 10 * size).astype(int) % size
    fade = np.clip(depth * 3, 0, 1)[..., None]
    tint = jitter(rng, colours[rng.integers(8)], 0.1)
    canvas.cover(floor, (0.5 * pattern[v, u] + 0.5 * tint) * fade + (1 - fade) * tint, "ground",
                 depth)  # fmt: skip


def skin(canvas: Canvas, tint: Array, seed: int, share: float = 0.4) -> Array:
    """Return (size, size, 3): the tint, half of the time mixed with some texture."""
    rng = canvas.rng
    if rng.random() < 0.5:
        return np.broadcast_to(tint.astype(np.float32), (*canvas.thing.shape, 3)).copy()
    pattern = recipe(seed, int(rng.integers(10**6)))(rng, canvas.size)
    return ((1 - share) * tint + share * pattern).astype(np.float32)


def building(canvas: Canvas, place: Place) -> None:
    """Raise a house or tower: a lit and a dark face, windows, a roof."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint, sun = place.near, place.horizon, place.tint, place.sun
    y, x = grid(size)
    width, height = (0.15 + 0.4 * near) * size * rng.uniform(0.4, 1), rng.uniform(0.2, 0.9) * size
    base = horizon + near * (size - horizon) * 0.8
    left, top = rng.uniform(-0.2, 1) * size, base - height
    face, dark = skin(canvas, tint, place.seed, 0.25), 0.55
    split = left + width * (0.7 if sun < 0 else 0.3)
    body = (x > left) & (x < left + width) & (y > top) & (y < base)
    lit = (x < split) if sun < 0 else (x > split)
    canvas.cover(body, face * np.where(lit, 1.05, dark)[..., None], "wall", near)
    peak = width * rng.choice([0.0, 0.3, 0.8])
    roof = (y <= top) & (y > top - peak * (1 - np.abs(x - left - width / 2) / (width / 2)))
    if peak:
        canvas.cover(roof, tint * rng.uniform(0.4, 0.8), "wall", near)
    pitch, room = rng.uniform(4, 10), rng.uniform(0.4, 0.7)
    pane = ((x - left) % pitch < room * pitch) & ((y - top) % (1.4 * pitch) < room * 1.4 * pitch)
    pane &= body & (x - left > 1.5) & (y - top > 2)
    glow = np.array([1, 0.85, 0.45]) if rng.random() < 0.3 else tint * 0.25
    canvas.cover(pane, jitter(rng, glow, 0.05), "window", near)


def ball(canvas: Canvas, place: Place) -> None:
    """Lay down a shaded ball or egg with a highlight and a cast shadow."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint, sun = place.near, place.horizon, place.tint, place.sun
    y, x = grid(size)
    r = (0.04 + 0.2 * near) * size * rng.uniform(0.5, 1)
    cy, cx = horizon + near * (size - horizon) * 0.9 - r, rng.uniform(0, size)
    u, v = (x - cx) / r, (y - cy) / (r * rng.choice([1.0, 1.0, 0.7, 1.4]))
    shadow = np.hypot((x - cx + sun * r) / (1.4 * r), (y - cy - r) / (0.35 * r)) < 1
    canvas.image[shadow] *= 0.5
    inside = u * u + v * v < 1
    light = np.clip(0.7 * sun * u - 0.6 * v + 0.5 * np.sqrt(np.clip(1 - u * u - v * v, 0, 1)), 0, 1)
    shine = np.clip(light - 0.93, 0, 1) * 8 * rng.choice([0, 1])
    body = skin(canvas, tint, place.seed) * (0.25 + 0.9 * light)[..., None] + shine[..., None]
    canvas.cover(inside, body, "ball", near)


def tree(canvas: Canvas, place: Place) -> None:
    """Grow a trunk that forks, and leaves over it."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint, sun = place.near, place.horizon, place.tint, place.sun
    wood = Image.new("L", (size, size), 0)
    leaf = Image.new("L", (size, size), 0)
    pen, green = ImageDraw.Draw(wood), ImageDraw.Draw(leaf)
    bare = rng.random() < 0.35

    def grow(x: float, y: float, turn: float, length: float, width: float) -> None:
        ex, ey = x + length * np.cos(turn), y + length * np.sin(turn)
        pen.line([(x, y), (ex, ey)], fill=255, width=max(1, round(width)))
        if length < 5:
            return
        if not bare and length < 16:
            for dx, dy in rng.normal(0, 0.5 * length, (5, 2)):
                r = rng.uniform(1, 4)
                tone = int(np.clip(140 + 60 * sun * dx / length - 60 * dy / length, 60, 255))
                green.ellipse([ex + dx - r, ey + dy - r, ex + dx + r, ey + dy + r], fill=tone)
        for _ in range(int(rng.integers(2, 4))):
            bend = turn + rng.normal(0, 0.5)
            grow(ex, ey, bend, length * rng.uniform(0.55, 0.85), width * 0.65)

    base = horizon + near * (size - horizon) * 0.9
    grow(
        rng.uniform(0, size),
        base,
        -np.pi / 2,
        (8 + 22 * near) * rng.uniform(0.7, 1.2),
        1 + 5 * near,
    )
    canvas.cover(np.asarray(wood) > 0, tint * 0.35, "branch", near)
    crown = np.asarray(leaf, np.float32) / 150
    hue = jitter(rng, np.array([0.35, 0.5, 0.2]) * 0.5 + 0.5 * tint, 0.1)
    canvas.cover(crown > 0, hue * crown[..., None], "foliage", near)


def cables(canvas: Canvas, place: Place) -> None:
    """Hang a bridge or wires: a deck, towers, catenaries and hangers, all thin."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint = place.near, place.horizon, place.tint
    iron = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(iron)
    deck, slope = horizon - rng.uniform(-10, 25), rng.uniform(-0.3, 0.3)
    towers, high = np.sort(rng.uniform(0, size, 2)), rng.uniform(20, 60)
    width = max(1, round(4 * near))
    xs = np.linspace(-10, size + 10, 60)

    def level(x: Array | float) -> Array:
        return np.asarray(deck + slope * (x - size / 2))

    pen.line(list(zip(xs.tolist(), level(xs).tolist(), strict=True)), fill=255, width=width)
    span = max(20.0, towers[1] - towers[0])
    t = np.abs((xs - towers[0]) / span - np.round((xs - towers[0]) / span)) * 2
    sag = level(xs) - high * (1 - np.sqrt(np.clip(t, 0, 1))) - 2
    pen.line(list(zip(xs.tolist(), sag.tolist(), strict=True)), fill=255, width=1)
    for x, top in zip(xs[::2], sag[::2], strict=True):
        pen.line([(x, top), (x, float(level(x)))], fill=255, width=1)
    for x in towers:
        for off in (-width, width):
            pen.line([(x + off, float(level(x)) - high), (x + off, float(level(x)) + 30)],
                     fill=255, width=width)  # fmt: skip
    canvas.cover(np.asarray(iron) > 0, tint, "cable", near)


def figure(canvas: Canvas, place: Place) -> None:
    """Stand a person: head, body, limbs, in two colours."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint, sun = place.near, place.horizon, place.tint, place.sun
    tall = (0.15 + 0.6 * near) * size * rng.uniform(0.6, 1)
    foot, cx = horizon + near * (size - horizon) * 0.95, rng.uniform(0, size)
    body = Image.new("RGB", (size, size))
    pen, mask = ImageDraw.Draw(body), Image.new("L", (size, size), 0)
    stencil = ImageDraw.Draw(mask)
    cloth, face = tint, jitter(rng, np.array([0.8, 0.62, 0.5]), 0.12)

    def ellipse(x: float, y: float, rx: float, ry: float, colour: Array) -> None:
        for k in range(4):  # lighter towards the sun: soft shading in four steps
            s, off = 1 - 0.2 * k, 0.12 * k * rx * sun
            box = [x - rx * s + off, y - ry * s, x + rx * s + off, y + ry * s]
            pen.ellipse(box, fill=ink(colour * (0.55 + 0.17 * k)))
        stencil.ellipse([x - rx, y - ry, x + rx, y + ry], fill=255)

    for side in (-1, 1):
        ellipse(cx + side * 0.06 * tall, foot - 0.22 * tall, 0.045 * tall, 0.22 * tall, cloth * 0.5)
        ellipse(cx + side * 0.13 * tall, foot - 0.6 * tall, 0.035 * tall, 0.18 * tall, cloth * 0.9)
    ellipse(cx, foot - 0.6 * tall, 0.12 * tall, 0.22 * tall, cloth)
    ellipse(cx, foot - 0.9 * tall, 0.07 * tall, 0.09 * tall, face)
    canvas.cover(np.asarray(mask) > 0, np.asarray(body, np.float32) / 255, "figure", near)


def boxes(canvas: Canvas, place: Place) -> None:
    """Put down a crate in three-quarter view: three faces of different light."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint, sun = place.near, place.horizon, place.tint, place.sun
    side = (0.06 + 0.25 * near) * size * rng.uniform(0.5, 1)
    cx, base = rng.uniform(0, size), horizon + near * (size - horizon) * 0.9
    turn = rng.uniform(0.2, 0.8)
    a, b = np.array([turn * side, -0.35 * side]), np.array([-(1 - turn) * side, -0.3 * side])
    up, foot = np.array([0, -side * rng.uniform(0.5, 1.5)]), np.array([cx, base])
    surface = skin(canvas, tint, place.seed)
    faces = ((foot, a, up, 0.9 if sun > 0 else 0.5), (foot, b, up, 0.5 if sun > 0 else 0.9),
             (foot + up, a, b, 1.2))  # fmt: skip
    for corner, u, v, light in faces:
        area = Image.new("L", (size, size), 0)
        points = [tuple(p.tolist()) for p in (corner, corner + u, corner + u + v, corner + v)]
        ImageDraw.Draw(area).polygon(points, fill=255)
        canvas.cover(np.asarray(area) > 0, surface * light, "wall", near)


def slab(canvas: Canvas, place: Place) -> None:
    """Let a blurred, textured blob of foliage or rock come into the picture."""
    rng, size = canvas.rng, canvas.size
    near, horizon, tint = place.near, place.horizon, place.tint
    y, x = grid(size)
    r = (0.1 + 0.25 * near) * size
    cy, cx = horizon + near * (size - horizon) * 0.7, rng.uniform(0, size)
    away = np.hypot(y - cy, x - cx) / r + 0.2 * spectrum(rng, size, 1.6)
    shade = np.clip(1.3 - (y - cy + r) / (2 * r), 0.4, 1.3)
    canvas.cover(away < 1, skin(canvas, tint, place.seed, 0.6) * shade[..., None], "foliage", near)
