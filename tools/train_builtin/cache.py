"""Draws every training image once and keeps it in a folder, so that drawing never delays a step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from tools.train_builtin import scenes, textures
from tools.train_builtin.noise import Array, to_bytes


@dataclass(frozen=True)
class Plan:
    """What is drawn: everything follows from these numbers."""

    seed: int = 0
    size: int = 192
    classes: int = 840
    exemplars: int = 6
    scenes: int = 4800
    painters: int = 300

    @property
    def textures(self) -> int:
        """The number of texture images."""
        return self.classes * self.exemplars


@dataclass(frozen=True)
class Images:
    """The drawn images, memory-mapped: textures by (class, exemplar), scenes with their maps."""

    textures: Array  # (classes * exemplars, size, size, 3) uint8; class = index // exemplars
    painted: Array  # (scenes, size, size, 3) uint8: the scene in some medium
    clean: Array  # (scenes, size, size, 3) uint8: the scene as a photograph
    maps: Array  # (scenes, size, size, 3) uint8: thing, depth, edge
    painters: Array  # (scenes,) int32: by whom


def draw_texture(job: tuple[Plan, int]) -> Array:
    """Return texture number ``job[1]`` as uint8."""
    plan, index = job
    number, exemplar = divmod(index, plan.exemplars)
    return to_bytes(textures.texture(plan.seed, number, exemplar, plan.size))


def draw_scene(job: tuple[Plan, int]) -> tuple[Array, Array, Array, int]:
    """Return scene number ``job[1]``: painted, clean, maps, painter."""
    plan, index = job
    return scenes.scene(plan.seed, index, plan.size, plan.painters)


def load(folder: str, plan: Plan, workers: int = 1) -> Images:
    """Open the images of ``plan`` in ``folder``; draw them first where they are missing."""
    os.makedirs(folder, exist_ok=True)
    mark, wanted = os.path.join(folder, "plan.json"), json.dumps(asdict(plan))
    if not drawn(mark, wanted):
        draw_all(folder, plan, workers)
        with open(mark, "w", encoding="utf-8") as file:
            file.write(wanted)
    return opened_images(folder)


def opened_images(folder: str) -> Images:
    """Map the drawn images of ``folder`` into memory."""
    names = ("textures", "painted", "clean", "maps", "painters")
    return Images(*[np.load(os.path.join(folder, f"{n}.npy"), mmap_mode="r") for n in names])


def drawn(mark: str, wanted: str) -> bool:
    """Say whether the folder's mark names the wanted plan."""
    if not os.path.exists(mark):
        return False
    with open(mark, encoding="utf-8") as file:
        return file.read() == wanted


def draw_all(folder: str, plan: Plan, workers: int) -> None:
    """Draw every image of ``plan`` into .npy files, with ``workers`` processes (0: in this one)."""

    def opened(name: str, shape: tuple[int, ...], kind: Any = np.uint8) -> np.memmap[Any, Any]:
        path = os.path.join(folder, f"{name}.npy")
        return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)

    def drawn_by(draw: Any, count: int) -> Iterator[Any]:
        jobs = [(plan, index) for index in range(count)]
        if not workers:
            yield from map(draw, jobs)
            return
        with get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(draw, jobs, chunksize=16)

    shape = (plan.size, plan.size, 3)
    store = opened("textures", (plan.textures, *shape))
    for index, image in enumerate(drawn_by(draw_texture, plan.textures)):
        store[index] = image
    painted, clean, maps = (
        opened(name, (plan.scenes, *shape)) for name in ("painted", "clean", "maps")
    )
    hands = opened("painters", (plan.scenes,), np.int32)
    for index, drawn_scene in enumerate(drawn_by(draw_scene, plan.scenes)):
        painted[index], clean[index], maps[index], hands[index] = drawn_scene
    for array in (store, painted, clean, maps, hands):
        array.flush()
