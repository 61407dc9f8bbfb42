"""A painting made by code: thick strokes along a flow of wind and land, lit from the upper left.

Strokes are laid in passes from broad to fine over a loose sketch of a valley under a windy sky.
Each is an arc of bristles with its own colour and ridge of paint; the relief is lit at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstd.demo_art import valley
from nstd.demo_art.field import Field, blur, grid, noise, to_srgb
from nstd.demo_art.valley import HEIGHT, WIDTH


@dataclass(frozen=True)
class Pass:
    """One round of strokes; lengths in pixels."""

    count: int
    half_length: float
    half_width: float
    daring: float
    """How far a stroke's colour may leave the sketch's."""
    relief: float
    """Thickness of the paint."""


PASSES = (
    Pass(900, 34.0, 8.5, 0.050, 0.7),
    Pass(2600, 22.0, 4.6, 0.075, 1.0),
    Pass(3600, 14.0, 2.7, 0.100, 0.9),
)


@dataclass(frozen=True)
class Stroke:
    """One touch of the brush: an arc, with its colour in linear light."""

    row: int
    column: int
    heading: float
    bend: float
    """Radians per pixel along the stroke."""
    half_length: float
    half_width: float
    colour: Field
    relief: float


def painting(seed: int = 3) -> NDArray[np.uint8]:
    """Return the painting as (640, 800, 3) sRGB; the same seed gives the same picture."""
    rng = np.random.default_rng(seed)
    x, y = grid(HEIGHT, WIDTH)
    land = valley.land(rng)
    sketch = valley.sketch(rng, x, y, land)
    angle = valley.flow(rng, x, y, land)
    canvas = sketch * np.float32(0.8) + np.float32(0.05)
    relief = np.float32(0.12) * noise(rng, HEIGHT, WIDTH, cells=(160, 200), octaves=2)
    for stage in PASSES:
        for stroke in _strokes(rng, stage, sketch, angle):
            _lay(rng, canvas, relief, stroke)
    return _light(rng, canvas, relief)


def _strokes(rng: np.random.Generator, stage: Pass, sketch: Field, angle: Field) -> list[Stroke]:
    """Return one pass of strokes, in the sketch's colours and along the flow."""
    count = stage.count
    rows, columns = _places(rng, count, sketch, everywhere=stage is PASSES[0])
    heading = angle[rows, columns] + rng.normal(0, 0.08, count)
    length = stage.half_length * rng.uniform(0.65, 1.25, count)
    width = stage.half_width * rng.uniform(0.75, 1.25, count)
    ahead = (
        np.clip(rows + np.sin(heading) * length / 2, 0, HEIGHT - 1).astype(int),
        np.clip(columns + np.cos(heading) * length / 2, 0, WIDTH - 1).astype(int),
    )
    bend = np.clip(np.angle(np.exp(1j * (angle[ahead] - heading))) / length, -0.03, 0.03)
    tint = rng.normal(0, 2.2, (count, 3)) + rng.normal(0, 2.0, (count, 1))
    colour = sketch[rows, columns] * np.exp(stage.daring * tint)
    colour = (colour + 0.1 * stage.daring * rng.uniform(0, 1, (count, 3))).astype(np.float32)
    return [
        Stroke(int(r), int(c), float(h), float(b), float(s), float(w), paint, stage.relief)
        for r, c, h, b, s, w, paint in zip(
            rows, columns, heading, bend, length, width, colour, strict=True
        )
    ]


def _places(
    rng: np.random.Generator, count: int, sketch: Field, *, everywhere: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where strokes go: everywhere, or rather where the sketch changes."""
    grey = sketch.mean(-1)
    edges = np.abs(grey - blur(grey, 10))
    chance = (edges / edges.max() + (1e3 if everywhere else 0.10)).ravel().astype(np.float64)
    flat = rng.choice(HEIGHT * WIDTH, count, p=chance / chance.sum())
    return flat // WIDTH, flat % WIDTH


def _lay(rng: np.random.Generator, canvas: Field, relief: Field, stroke: Stroke) -> None:
    """Lay one stroke onto ``canvas`` and ``relief``, in place."""
    spot, s, t = _footprint(stroke)
    bristles = rng.normal(0, 1, 64).astype(np.float32)
    bristles = 0.6 * bristles + 0.6 * np.roll(bristles, 1) + 0.4 * np.roll(bristles, 2)
    track = bristles[((t + 1) * 31).astype(np.intp)]
    end = 1 - np.abs(s) - 0.10 * track * (s > 0) - 0.12 * t * t  # ragged where the brush leaves
    alpha = np.clip(end * (stroke.half_length / 3.5), 0, 1)
    alpha *= np.clip((1 - np.abs(t)) * stroke.half_width, 0, 1)
    alpha *= 0.93 + 0.07 * np.clip(track, -1, 1)
    paint = stroke.colour * (1 + 0.10 * track)[:, None]
    canvas[spot] += alpha[:, None] * (paint - canvas[spot])
    bead = 0.5 * (1 - t * t) + 0.30 * track
    bead += 0.55 * np.exp(-(((np.abs(t) - 0.82) / 0.2) ** 2))  # pushed out along both sides,
    bead += 0.50 * np.exp(-(((s - 0.85) / 0.15) ** 2))  # and heaped up where the stroke ends
    relief[spot] += alpha * (stroke.relief * bead - 0.85 * relief[spot])


def _footprint(stroke: Stroke) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], Field, Field]:
    """Return the pixels under a stroke and where they lie along and across it, in [-1, 1]."""
    cos, sin = np.float32(np.cos(stroke.heading)), np.float32(np.sin(stroke.heading))
    long, wide = np.float32(stroke.half_length), np.float32(stroke.half_width)
    sag = wide + abs(stroke.bend) * long**2 / 2
    down = int(abs(sin) * long + abs(cos) * sag) + 2
    right = int(abs(cos) * long + abs(sin) * sag) + 2
    top, left = max(stroke.row - down, 0), max(stroke.column - right, 0)
    dy, dx = np.ogrid[
        top - stroke.row : min(down, HEIGHT - stroke.row),
        left - stroke.column : min(right, WIDTH - stroke.column),
    ]
    dy, dx = dy.astype(np.float32), dx.astype(np.float32)
    along = dx * cos + dy * sin
    across = dy * cos - dx * sin - np.float32(stroke.bend / 2) * along * along
    rows, columns = np.nonzero((np.abs(across) < wide) & (np.abs(along) < long))
    s, t = along[rows, columns] / long, across[rows, columns] / wide
    return (rows + top, columns + left), s, t


def _light(rng: np.random.Generator, canvas: Field, relief: Field) -> NDArray[np.uint8]:
    """Light the relief from the upper left, with the sheen of oil."""
    weave = noise(rng, HEIGHT, WIDTH, cells=(200, 250), octaves=1)
    down, right = np.gradient(2.2 * relief + 0.10 * weave)
    normal = np.stack([-right, -down, np.full_like(right, 2.6)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lamp = np.array([-0.42, -0.52, 0.74], np.float32)
    lamp /= np.linalg.norm(lamp)
    half = lamp + np.array([0, 0, 1], np.float32)  # the eye looks straight at the canvas
    sheen = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 60
    diffuse = normal @ lamp / lamp[2]
    return to_srgb(canvas * (0.30 + 0.70 * diffuse)[..., None] + 0.045 * sheen[..., None])
