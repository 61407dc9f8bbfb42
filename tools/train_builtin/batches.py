"""Crops for one training step, the same for the same seed and step on every machine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tools.train_builtin.cache import Images, Plan
from tools.train_builtin.noise import Array, Rng

CROP = 64


@dataclass(frozen=True)
class Batch:
    """One step's crops: textures first, then scenes; RGB in [0, 1], float32."""

    pictures: Array  # (textures + scenes, CROP, CROP, 3)
    classes: Array  # (textures,) int32
    clean: Array  # (scenes, CROP, CROP, 3)
    maps: Array  # (scenes, CROP, CROP, 3): thing, depth, edge as 0..255
    media: Array  # (scenes,) int32


def window(rng: Rng, size: int) -> tuple[int, int, int]:
    """Return top, left and side of a crop: a third to nearly all of the image."""
    side = int(rng.integers(min(size, 48), min(size, 116) + 1))
    top, left = rng.integers(0, size - side + 1, 2).tolist()
    return top, left, side


def crop(image: Array, at: tuple[int, int, int], *, exact: bool = False) -> Array:
    """Cut (CROP, CROP, 3) uint8 out of an image; ``exact`` takes pixels instead of mixing them."""
    top, left, side = at
    how = Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR
    piece = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return np.asarray(piece.resize((CROP, CROP), how))


def light(rng: Rng, count: int) -> tuple[Array, Array]:
    """Return gains and offsets (count, 1, 1, 3): exposure mostly, white balance a little.

    Colour stays informative: permuting channels made the features blind to colour.
    """
    gain = np.exp(0.15 * rng.standard_normal((count, 1, 1, 1)))
    tint = np.exp(0.05 * rng.standard_normal((count, 1, 1, 3)))
    return gain * tint, 0.04 * rng.standard_normal((count, 1, 1, 1))


def batch(images: Images, plan: Plan, step: int, textures: int, scenes: int) -> Batch:
    """Return the crops of ``step``."""
    rng = np.random.default_rng([plan.seed, 4, step])
    picks = rng.integers(plan.textures, size=textures)
    pictures = [crop(images.textures[i], window(rng, plan.size)) for i in picks]
    chosen = rng.integers(plan.scenes, size=scenes)
    clean, maps = [], []
    for index in chosen:
        at, flip = window(rng, plan.size), slice(None, None, -1 if rng.random() < 0.5 else 1)
        pictures.append(crop(images.painted[index], at)[:, flip])
        clean.append(crop(images.clean[index], at)[:, flip])
        maps.append(crop(images.maps[index], at, exact=True)[:, flip])
    gain, offset = light(rng, textures + scenes)
    shape = (scenes, CROP, CROP, 3)
    whole = np.clip(np.stack(pictures) / 255 * gain + offset, 0, 1)
    target = np.array(clean).reshape(shape) / 255 * gain[textures:] + offset[textures:]
    return Batch(
        whole.astype(np.float32),
        (picks // plan.exemplars).astype(np.int32),
        np.clip(target, 0, 1).astype(np.float32),
        np.array(maps, np.float32).reshape(shape),
        np.asarray(images.media)[chosen].astype(np.int32),
    )


def ahead(images: Images, plan: Plan, steps: range, textures: int, scenes: int) -> Iterator[Batch]:
    """Yield the batches of ``steps``, cut by one thread while the last one is being learned."""
    ready: queue.Queue[Batch] = queue.Queue(4)
    done = threading.Event()

    def cut() -> None:
        for step in steps:
            made = batch(images, plan, step, textures, scenes)
            while not done.is_set():
                try:
                    ready.put(made, timeout=0.5)
                    break
                except queue.Full:
                    continue
            if done.is_set():
                return

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    try:
        for _ in steps:
            yield ready.get()
    finally:
        done.set()
        thread.join()
