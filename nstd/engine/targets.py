"""What a level aims at: content features of the photograph, blended moments of the styles."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nstd.engine.losses import Moments
from nstd.engine.objective import Targets, weights_of
from nstd.engine.pyramid import PyramidLevel, fit
from nstd.engine.vgg import stride_of

if TYPE_CHECKING:
    from nstd.engine.params import StyleParams
    from nstd.engine.progress import Image, StyleImage

LayerMoments = dict[str, Moments]

_STRIP = 512
"""Rows of an image that are turned into pixels at a time."""
_KEPT_IN_MEMORY = 64
"""Style sizes; a full-width set of five layers takes 2.4 MB, so at most 150 MB."""
_KEPT_ON_DISK = 256
"""The same on disk: at most 600 MB, however many pairs bring a style of their own."""


def resize(pixels: Image, height: int, width: int) -> tf.Tensor:
    """Return (H, W, C) uint8 as (1, height, width, C) float32 in [0, 1], antialiased."""
    if pixels.shape[:2] == (height, width):
        scaled = tf.cast(pixels, tf.float32)
    else:
        scaled = tf.image.resize(pixels, (height, width), "lanczos3", antialias=True)
    return tf.clip_by_value(scaled, 0.0, 255.0)[None] / 255.0


def to_pixels(image: tf.Tensor) -> Image:
    """Return (1, H, W, 3) float in [0, 1] as (H, W, 3) uint8, rounded."""
    rows = []
    for top in range(0, image.shape[1], _STRIP):  # a large image has no room for three more
        values = tf.round(tf.clip_by_value(image[0, top : top + _STRIP], 0.0, 1.0) * 255.0)
        rows.append(tf.cast(values, tf.uint8).numpy())
    return np.concatenate(rows)


class Reader(Protocol):
    """Measures images: what Objective does in one piece and TiledObjective tile by tile."""

    tile: int
    """Side of the tiles; 0: in one piece."""

    def content_features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the content layers' maps of (1, H, W, 3)."""
        ...

    def style_moments(self, image: tf.Tensor) -> LayerMoments:
        """Return the style layers' moments of (1, H, W, 3)."""
        ...


class StyleCache:
    """Moments of style images by (file, size, layers, network): memory first, then disk.

    A damaged or foreign file on disk is a miss, never an error.
    """

    def __init__(
        self, folder: str | None, seen: Callable[[bool], None] = lambda _hit: None
    ) -> None:
        self._folder = folder
        self._seen = seen
        self._memory: OrderedDict[str, LayerMoments] = OrderedDict()
        for name in self._files():
            if name.startswith("."):  # half-written by a process that was killed
                self._remove(name)

    def get(
        self, key: str, layers: Sequence[str], compute: Callable[[], LayerMoments]
    ) -> LayerMoments:
        """Return the moments under ``key``, computing and keeping them where they are new."""
        found = self._memory.get(key) or self._read(key, layers)
        self._seen(found is not None)
        if found is None:
            found = compute()
            self._write(key, found)
        self._memory[key] = found
        self._memory.move_to_end(key)
        while len(self._memory) > _KEPT_IN_MEMORY:
            self._memory.popitem(last=False)
        return found

    def _read(self, key: str, layers: Sequence[str]) -> LayerMoments | None:
        if self._folder is None:
            return None
        path = os.path.join(self._folder, key + ".npz")
        try:
            # numpy leaves a damaged file open, unless the file is ours
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                with contextlib.suppress(OSError):
                    os.utime(path)  # the latest read stays longest
                return {layer: _stored(archive, layer) for layer in layers}
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None

    def _write(self, key: str, found: LayerMoments) -> None:
        if self._folder is None:
            return
        arrays: dict[str, NDArray[np.float32]] = {}
        for layer, values in found.items():
            arrays[f"{layer}/mean"] = values.mean.numpy()
            arrays[f"{layer}/gram"] = values.gram.numpy()
        temporary = os.path.join(self._folder, f".{key}.{os.getpid()}.npz")
        try:
            os.makedirs(self._folder, exist_ok=True)
            np.savez(temporary, allow_pickle=False, **arrays)
            os.replace(temporary, os.path.join(self._folder, key + ".npz"))
        except OSError:  # a cache that cannot be written only costs time
            if os.path.exists(temporary):
                os.unlink(temporary)
        self._trim()

    def _trim(self) -> None:
        """Remove from the disk what was not read for longest."""
        ages = []
        for name in self._files():
            with contextlib.suppress(OSError):
                ages.append((os.stat(os.path.join(str(self._folder), name)).st_mtime_ns, name))
        for _, name in sorted(ages)[: max(0, len(ages) - _KEPT_ON_DISK)]:
            self._remove(name)

    def _files(self) -> list[str]:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                return [name for name in os.listdir(self._folder) if name.endswith(".npz")]
        return []

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # another worker's, gone meanwhile
            os.unlink(os.path.join(str(self._folder), name))


def _stored(archive: Any, layer: str) -> Moments:
    """Return a layer's moments; ValueError when they cannot be what was written."""
    mean, gram = archive[f"{layer}/mean"], archive[f"{layer}/gram"]
    fits = mean.ndim == 2 and gram.shape == (*mean.shape, mean.shape[1])
    if not fits or mean.dtype != np.float32 or not np.isfinite(gram).all():
        raise ValueError(layer)
    return Moments(tf.constant(mean), tf.constant(gram))


class TargetMaker:
    """Builds the Targets of each level of one picture.

    ``network``: whatever of network and machine decides how a style's moments are rounded.
    ``reader_of``: what measures a style of so many pixels.
    """

    def __init__(
        self,
        params: StyleParams,
        styles: Sequence[StyleImage],
        cache: StyleCache,
        network: str,
        reader_of: Callable[[int], Reader],
    ) -> None:
        self._params, self._cache, self._reader_of = params, cache, reader_of
        self._regions = by_region(styles)
        self._style_layers = tuple(layer for layer, _ in params.layer_weights())
        self._network = network
        self._weights = weights_of(params)

    def build(self, content: tf.Tensor, level: PyramidLevel, reader: Reader) -> Targets:
        """Return what the picture at ``level`` aims at; ``content`` is (1, H, W, 3) there."""
        return Targets(
            content=reader.content_features(content),
            style=self._style_targets(level),
            shares=self._shares(level),
            weights=self._weights,
        )

    def _style_targets(self, level: PyramidLevel) -> dict[str, tuple[Moments, ...]]:
        regions = [
            [(style.weight, self._moments(style, level)) for style in styles]
            for styles in self._regions
        ]
        return {
            layer: tuple(_blend([(w, found[layer]) for w, found in each]) for each in regions)
            for layer in self._style_layers
        }

    def _moments(self, style: StyleImage, level: PyramidLevel) -> LayerMoments:
        if self._params.squeeze:
            height, width = self._params.squeeze
        else:
            longest = max(16, round(level.long_side * self._params.style_scale))
            height, width = style.pixels.shape[:2]
            height, width = fit(height, width, longest)
        reader = self._reader_of(height * width)

        def compute() -> LayerMoments:
            return reader.style_moments(resize(style.pixels, height, width))

        if not style.sha256:
            return compute()
        facts = (
            style.sha256,
            style.pixels.shape,
            height,
            width,
            self._style_layers,
            self._network,
            reader.tile,
            self._params.pooling,
            self._params.edge,
            self._params.precision,
            self._params.preserve_color == "histogram"
            and hashlib.sha256(style.pixels.tobytes()).hexdigest(),
        )
        key = hashlib.sha256(repr(facts).encode()).hexdigest()
        return self._cache.get(key, self._style_layers, compute)

    def _shares(self, level: PyramidLevel) -> dict[str, tuple[tf.Tensor, ...]]:
        """Return each region's mask at each layer's size; empty: one region, everywhere."""
        if all(styles[0].mask is None for styles in self._regions):
            return {}
        shares = {}
        for layer in self._style_layers:
            stride = stride_of(layer)
            shares[layer] = tuple(
                shares_of(self._regions, level.height // stride, level.width // stride)
            )
        return shares


def shares_of(regions: Sequence[Sequence[StyleImage]], height: int, width: int) -> list[tf.Tensor]:
    """Return each region's mask as (1, height, width, 1); styles without one fill the rest."""
    rest = tf.ones((1, height, width, 1))
    found: list[tf.Tensor | None] = []
    for styles in regions:
        mask, small = styles[0].mask, None
        if mask is not None:
            small = tf.image.resize(mask[None, ..., None], (height, width), "area")
            rest = tf.nn.relu(rest - small)
        found.append(small)
    return [rest if small is None else small for small in found]


def by_region(styles: Sequence[StyleImage]) -> list[list[StyleImage]]:
    """Return the styles by where they apply: those that share a mask are blended there."""
    regions: list[list[StyleImage]] = []
    for style in styles:
        for region in regions:
            if _same_mask(region[0].mask, style.mask):
                region.append(style)
                break
        else:
            regions.append([style])
    return regions


def _same_mask(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


def _blend(parts: Sequence[tuple[float, Moments]]) -> Moments:
    """Return the weighted mean of first and second moments: the moments of the mixed pixels."""
    total = sum(weight for weight, _ in parts)
    return Moments(
        tf.add_n([weight / total * part.mean for weight, part in parts]),
        tf.add_n([weight / total * part.gram for weight, part in parts]),
    )
