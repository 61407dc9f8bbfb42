"""The small change of every generated image: noise fields, palettes, fast drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[Any]
Rng = np.random.Generator

NATURAL_HUES = (0.05, 0.08, 0.11, 0.14, 0.28, 0.56, 0.6, 0.64)


def as_float(values: Any) -> Array:
    """Return the values as float32."""
    return np.asarray(values, np.float32)


def spectrum(
    rng: Rng, size: int, power: float, band: float = 0.0, grain: tuple[float, float] = (0.0, 1.0)
) -> Array:
    """Return (size, size) noise with a 1/f^power spectrum, zero mean and unit deviation.

    ``band`` > 0 keeps a ring around that frequency (cycles per image); ``grain`` is an
    angle and how much the noise is drawn out along it.
    """
    angle, stretch = grain
    fy = np.fft.fftfreq(size)[:, None] * size
    fx = np.fft.rfftfreq(size)[None] * size
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.hypot(u * stretch, v / np.sqrt(stretch)) + 1e-6
    gain = np.maximum(radius, 1.0) ** -power
    if band:
        gain = gain * np.exp(-0.5 * (np.log(np.maximum(radius, 0.5) / band) / 0.35) ** 2)
    gain[0, 0] = 0.0
    shape = gain.shape
    phase = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    field = np.fft.irfft2(phase * gain, s=(size, size))
    return as_float((field - field.mean()) / (field.std() + 1e-9))


def palette(rng: Rng, count: int | np.integer[Any]) -> Array:
    """Return (count, 3) colours in [0, 1] that belong together: one or two hues, spread in light.

    Paintings and photographs keep to few hues; uniform RGB would make every image a fairground.
    Half of the palettes start from a hue of earth, skin, leaves or sky, the others from any.
    """
    hue = rng.random()
    if rng.random() < 0.5:
        hue = rng.choice(NATURAL_HUES) + 0.02 * rng.standard_normal()
    second = hue + rng.choice([0.0, 0.08, 0.33, 0.5]) + 0.05 * rng.standard_normal()
    hues = np.where(rng.random(count) < 0.6, hue, second) + 0.03 * rng.standard_normal(count)
    saturation = np.clip(rng.uniform(0.2, 0.97) ** 2 + 0.2 * rng.standard_normal(count), 0, 1)
    value = np.sort(rng.uniform(0.05, 1.0, count)) if rng.random() < 0.7 else rng.random(count)
    return hsv(hues, saturation, value)


def hsv(hue: Array, saturation: Array, value: Array) -> Array:
    """Return RGB (..., 3) of hue (in turns), saturation and value."""
    corner = np.array([0.0, 2 / 3, 1 / 3])
    ramp = np.clip(np.abs((hue[..., None] + corner) % 1.0 * 6 - 3) - 1, 0, 1)
    return as_float(value[..., None] * (1 - saturation[..., None] * (1 - ramp)))


def jitter(rng: Rng, colours: Array, amount: float) -> Array:
    """Return the colours moved a little, each on its own."""
    moved = colours + amount * rng.standard_normal(colours.shape)
    return as_float(np.minimum(np.maximum(moved, 0), 1))


def gradient_map(field: Array, colours: Array) -> Array:
    """Return (h, w, 3): the field's ranks in [0, 1] looked up along a run of colours."""
    low, high = np.percentile(field, (2, 98))
    place = np.clip((field - low) / (high - low + 1e-9), 0, 1) * (len(colours) - 1)
    below = np.minimum(place.astype(int), len(colours) - 2)
    part = (place - below)[..., None]
    return as_float((1 - part) * colours[below] + part * colours[below + 1])


def grid(size: int) -> tuple[Array, Array]:
    """Return y and x, each (size, size), in pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return y, x


def blur(image: Array, radius: float) -> Array:
    """Return the (h, w) or (h, w, 3) image in [0, 1], blurred (8 bits are enough here)."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def relief(image: Array, height: Array, strength: float, angle: float) -> Array:
    """Return the image lit from the side as if ``height`` (0 to 1) were thick paint (impasto)."""
    dy, dx = np.gradient(height)
    light = strength * (dx * np.cos(angle) + dy * np.sin(angle))
    return as_float(np.clip(image * (1 + light[..., None]), 0, 1))


def ink(colour: Array) -> tuple[int, int, int]:
    """Return a colour in [0, 1] as PIL wants it."""
    red, green, blue = (min(255, max(0, int(255 * value))) for value in colour.tolist())
    return red, green, blue


def to_bytes(image: Array) -> Array:
    """Return the image in [0, 1] as uint8."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
