"""What one training step sees, the same for the same seed and step on every machine.

The host picks images and windows; the crops themselves are cut on the device (``cut``), because one
Python thread that cuts them cannot keep up with a network this small.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin.cache import Images, Plan
from tools.train_builtin.noise import Array, Rng

CROP = 96
"""Pixels; a place of block4_conv2 sees 76 of them, a place of block5_conv1 132 (if there were)."""


@dataclass(frozen=True)
class Batch:
    """One step's images, whole, and the windows to cut from them."""

    textures: Array  # (T, size, size, 3) uint8
    painted: Array  # (S, size, size, 3) uint8
    clean: Array  # (S, size, size, 3) uint8
    maps: Array  # (S, size, size, 3) uint8: thing, depth, edge
    classes: Array  # (T,) int32
    painters: Array  # (S,) int32
    windows: Array  # (T + S, 4) float32: top, left, bottom, right as shares; left > right: mirrored
    gain: Array  # (T + S, 1, 1, 3) float32
    offset: Array  # (T + S, 1, 1, 1) float32
    seed: Array  # (2,) int32, of the noise


def windows(rng: Rng, count: int, size: int) -> Array:
    """Return (count, 4) windows of 2/3 to 3/2 of a crop, half of them mirrored."""
    side = rng.uniform(min(1.0, CROP / 1.5 / size), min(1.0, CROP * 1.5 / size), count)
    top, left = rng.random((2, count)) * (1 - side)
    right, mirrored = left + side, rng.random(count) < 0.5
    ends = np.where(mirrored, right, left), np.where(mirrored, left, right)
    return np.stack([top, ends[0], top + side, ends[1]], -1).astype(np.float32)


def light(rng: Rng, count: int) -> tuple[Array, Array]:
    """Return gains and offsets (count, 1, 1, 3): exposure mostly, white balance a little.

    Colour stays informative: permuting channels made the features blind to colour.
    """
    gain = np.exp(0.15 * rng.standard_normal((count, 1, 1, 1)))
    tint = np.exp(0.05 * rng.standard_normal((count, 1, 1, 3)))
    offset = 0.04 * rng.standard_normal((count, 1, 1, 1))
    return (gain * tint).astype(np.float32), offset.astype(np.float32)


def batch(images: Images, plan: Plan, step: int, textures: int, scenes: int) -> Batch:
    """Return the images and windows of ``step``."""
    rng = np.random.default_rng([plan.seed, 4, step])
    picks = np.sort(rng.integers(plan.textures, size=textures))
    chosen = np.sort(rng.integers(plan.scenes, size=scenes))
    gain, offset = light(rng, textures + scenes)
    return Batch(
        textures=np.asarray(images.textures[picks]),
        painted=np.asarray(images.painted[chosen]),
        clean=np.asarray(images.clean[chosen]),
        maps=np.asarray(images.maps[chosen]),
        classes=(picks // plan.exemplars).astype(np.int32),
        painters=np.asarray(images.painters[chosen]).astype(np.int32),
        windows=windows(rng, textures + scenes, plan.size),
        gain=gain,
        offset=offset,
        seed=np.array([plan.seed, step], np.int32),
    )


def cut(parts: dict[str, Any], noise: Any = None) -> dict[str, Any]:
    """Return the crops (CROP, CROP, 3) of a batch's parts, in [0, 1].

    ``pictures``: the textures, then the scenes as painted, then the same windows of the clean
    scenes; ``maps``: those of the scenes; ``classes`` and ``painters`` as they came.
    """
    count = parts["classes"].shape[0]
    at, gain, offset = parts["windows"], parts["gain"], parts["offset"]
    pictures = tf.concat(
        [
            _crop(parts["textures"], at[:count]) * gain[:count] + offset[:count],
            _crop(parts["painted"], at[count:]) * gain[count:] + offset[count:],
            _crop(parts["clean"], at[count:]) * gain[count:] + offset[count:],
        ],
        0,
    )
    if noise is not None:
        grain = tf.random.stateless_normal(tf.shape(pictures), parts["seed"] + [1, 0])
        amount = tf.random.stateless_uniform((pictures.shape[0], 1, 1, 1), parts["seed"] + [2, 0])
        pictures += noise * amount * grain
    return {
        "pictures": tf.clip_by_value(pictures, 0.0, 1.0),
        "maps": _crop(parts["maps"], at[count:], "nearest") * 255.0,
        "classes": parts["classes"],
        "painters": parts["painters"],
    }


def _crop(images: Any, at: Any, how: str = "bilinear") -> Any:
    which = tf.range(tf.shape(images)[0])
    return tf.image.crop_and_resize(images, at, which, (CROP, CROP), how) / 255.0


def as_parts(made: Batch) -> dict[str, Any]:
    """Return a ``Batch`` as the mapping that a compiled step takes."""
    return {name: np.asarray(value) for name, value in vars(made).items()}


def ahead(images: Images, plan: Plan, steps: range, textures: int, scenes: int) -> Iterator[Batch]:
    """Yield the batches of ``steps``, read by one thread while the last one is being learned."""
    ready: queue.Queue[Batch] = queue.Queue(4)
    done = threading.Event()

    def read() -> None:
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

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        for _ in steps:
            yield ready.get()
    finally:
        done.set()
        thread.join()
