"""The objective of a large image, tile by tile, exactly: no seam, no shift of style.

Means and Gram matrices are sums over positions, so tiles add up. The network is cut into stages
at its pooling layers. Going down, every stage runs tile by tile and adds its statistics; only the
small maps between stages are kept. Then the loss and its gradient with respect to the statistics
are computed once. Going up, every tile of a stage runs again and back-propagates that gradient
together with the one that arrives from the stage below.

A tile carries a halo of as many positions as its stage's convolutions reach, so its own positions
are exact; because a stage is shallow the halo is narrow, where a tile of the whole network would
need 80 pixels on each side.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nstd.engine import losses
from nstd.engine.losses import Moments
from nstd.engine.objective import Objective, Targets, Terms
from nstd.engine.tiles import Stage, Tile, stages
from nstd.engine.vgg import LAYERS, preprocess

Array = NDArray[Any]
"""A whole map, in the host's memory: TensorFlow copies a variable whole to read a part of it."""
alive: ContextVar[Callable[[], None]] = ContextVar("alive", default=lambda: None)
"""Called at each tile: a sign of life from inside a long step, of the run in this thread."""
Regions = tuple[Moments, ...]
_NOTHING: Array = np.zeros((1, 0, 0, 1), np.float32)
_STRIP = 256
"""Rows of an image that the terms of its pixels are computed for at a time."""


@dataclass
class _Descent:
    """What the way down leaves behind."""

    inputs: list[Array]
    """Input of each stage, (1, H, W, C)."""
    sums: dict[str, Regions] = field(default_factory=dict)
    """Style layer -> sums of f and f fᵀ, one a region."""
    squares: dict[str, tf.Tensor] = field(default_factory=dict)
    """Content layer -> sum of squared differences, (1,)."""
    energies: dict[str, tf.Tensor] = field(default_factory=dict)
    """Content layer -> sum of squares of its target, (1,)."""
    maps: dict[str, Array] = field(default_factory=dict)
    """Content layer -> its whole map; only where asked for."""

    def add(self, sums: dict[str, Regions], squares: dict[str, tuple[tf.Tensor, ...]]) -> None:
        """Add one tile's share."""
        for layer, regions in sums.items():
            before = self.sums.get(layer)
            self.sums[layer] = tf.nest.map_structure(tf.add, before, regions) if before else regions
        for layer, (square, energy) in squares.items():
            self.squares[layer] = self.squares.get(layer, 0.0) + square
            self.energies[layer] = self.energies.get(layer, 0.0) + energy


class TiledObjective:
    """The same terms and gradient as Objective, in memory that the tile bounds.

    ``tile`` is the side of the first stage's tiles in pixels.
    """

    def __init__(self, objective: Objective, tile: int) -> None:
        self._objective, self.tile = objective, tile
        network, layers = objective.extractor.network, objective.extractor.layers
        self._stages = stages(LAYERS[: LAYERS.index(layers[-1]) + 1])
        self._models = [
            network.section(each.names, [*layers, each.names[-1]]) for each in self._stages
        ]
        self._down = [self._traced(self._forward, i) for i in range(len(self._stages))]
        self._up = [self._traced(self._backward, i) for i in range(len(self._stages))]
        self._strip = tf.function(self._strip_terms, reduce_retracing=True, autograph=False)

    def _traced(self, method: Any, index: int) -> Any:
        """Return ``method`` of one stage as a graph that serves every tile size."""
        return tf.function(
            lambda *args: method(index, *args), reduce_retracing=True, autograph=False
        )

    # --- reading an image --------------------------------------------------------------------

    def content_features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the content layers' maps of (1, H, W, 3)."""
        maps = self._descend(image, None, keep=True).maps
        return {layer: tf.constant(whole) for layer, whole in maps.items()}

    def style_moments(self, image: tf.Tensor) -> dict[str, Moments]:
        """Return the style layers' moments of (1, H, W, 3)."""
        sums = self._descend(image, None).sums
        counts = {layer: (self._positions(image, layer),) for layer in sums}
        return {layer: _over(regions, counts[layer])[0] for layer, regions in sums.items()}

    def _descend(
        self, image: tf.Tensor, targets: Targets | None, *, keep: bool = False
    ) -> _Descent:
        found = _Descent([np.asarray(image)])
        for i, stage in enumerate(self._stages):
            x = found.inputs[-1]
            below = None
            for tile in stage.tiles(x.shape[1], x.shape[2], self.tile):
                alive.get()()
                own, sums, squares = self._down[i](
                    tf.constant(x[tile.reads]),
                    tf.constant(tile.window),
                    *self._parts(stage, tile, targets),
                )
                found.add(sums, squares)
                if i + 1 < len(self._stages):
                    below = _place(below, own[stage.names[-1]], tile, x, stage.grid)
                for layer in self._objective.content_layers if keep else ():
                    if layer in stage.names:
                        maps, stride = found.maps, stage.stride_of(layer)
                        maps[layer] = _place(maps.get(layer), own[layer], tile, x, stride)
            if below is not None:
                found.inputs.append(below)
        return found

    def _parts(
        self, stage: Stage, tile: Tile, targets: Targets | None
    ) -> tuple[dict[str, tf.Tensor], dict[str, tuple[tf.Tensor, ...]]]:
        """Return the tile's share of the content targets and of the masks."""
        if targets is None:
            return {}, {}
        content = {
            layer: whole[tile.owns(stage.stride_of(layer))]
            for layer, whole in targets.content.items()
            if layer in stage.names
        }
        shares = {
            layer: tuple(mask[tile.owns(stage.stride_of(layer))] for mask in masks)
            for layer, masks in targets.shares.items()
            if layer in stage.names
        }
        return content, shares

    def _forward(
        self, index: int, x: tf.Tensor, window: tf.Tensor, content: Any, shares: Any
    ) -> tuple[dict[str, tf.Tensor], dict[str, Regions], dict[str, tuple[tf.Tensor, ...]]]:
        """Run one tile: its own part of each map, its sums, its squares of content.

        Of the difference to the content target, and of the target itself.
        """
        stage = self._stages[index]
        if index == 0:
            x = preprocess(tf.clip_by_value(x, 0.0, 1.0))
        own = {}
        for layer, features in self._models[index](x).items():
            at = window // stage.stride_of(layer)
            own[layer] = features[:, at[0] : at[1], at[2] : at[3]]
        sums = {
            layer: tuple(
                losses.moment_sums(own[layer], share) for share in shares.get(layer) or (None,)
            )
            for layer in self._objective.style_layers
            if layer in own
        }
        squares = {
            layer: (
                tf.reduce_sum(losses.squared_difference(own[layer], target), (1, 2, 3)),
                losses.energy(target),
            )
            for layer, target in content.items()
        }
        return own, sums, squares

    # --- loss and gradient -------------------------------------------------------------------

    def __call__(self, images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
        """Return the terms (1,) and the gradient (1, H, W, 3) of one image (1, H, W, 3)."""
        found = self._descend(images, targets)
        style, pull = self._style(images, found.sums, targets)
        per_square = self._per_square(found.energies, targets)
        content = tf.add_n([per_square[layer] * found.squares[layer] for layer in per_square])
        gradient = self._ascend(found, pull, per_square, targets)
        tv, out_of_range = self._pixels(images, gradient, targets)
        terms = Terms(content + style + tv + out_of_range, content, style, tv)
        return terms, tf.constant(gradient)

    def _pixels(
        self, image: tf.Tensor, gradient: Array, targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the weighted total variation and range losses; add their gradient.

        Strip by strip, as each image-sized temporary is 160 MB at 4096 pixels.
        """
        height, width = image.shape[1:3]
        weights = {name: targets.weights[name] for name in ("tv", "range")}
        values = height * width * 3.0
        shares = tf.constant([values / width * (width - 1), values / height * (height - 1), values])
        found = []
        for top in range(0, height, _STRIP):
            bottom = min(height, top + _STRIP)
            above, below = max(0, top - 1), min(height, bottom + 1)
            own = tf.constant((top - above, bottom - above))
            *terms, part = self._strip(image[:, above:below], own, 1.0 / shares, weights)
            gradient[:, top:bottom] += part.numpy()
            found.append(terms)
        tv, out_of_range = (tf.add_n(each) for each in zip(*found, strict=True))
        return tv, out_of_range

    def _strip_terms(
        self, x: tf.Tensor, own: tf.Tensor, shares: tf.Tensor, weights: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return a strip's part of both losses, and its own rows' gradient.

        ``x``: its ``own`` rows, and the ones above and below; ``shares``: what one difference
        across, one down, and one value weigh.
        """
        axes, mine = (1, 2, 3), slice(own[0], own[1])
        clipped = tf.clip_by_value(x, 0.0, 1.0)
        across = (clipped[:, :, 1:] - clipped[:, :, :-1])[:, mine]
        down = clipped[:, 1:] - clipped[:, :-1]
        beyond = (x - clipped)[:, mine]
        tv = shares[0] * tf.reduce_sum(across**2, axes)
        # the difference to the row above is that strip's loss, but moves this row, too
        tv += shares[1] * tf.reduce_sum(down[:, own[0] :] ** 2, axes)
        slope = shares[0] * losses.back_across(across)
        slope += shares[1] * losses.back_down(down)[:, mine]
        slope = weights["tv"] * tf.where(tf.equal(beyond, 0.0), slope, 0.0)
        slope += weights["range"] * shares[2] * beyond
        out_of_range = weights["range"] * shares[2] * tf.reduce_sum(beyond**2, axes)
        return weights["tv"] * tv, out_of_range, 2.0 * slope

    def _style(
        self, images: tf.Tensor, sums: dict[str, Regions], targets: Targets
    ) -> tuple[tf.Tensor, dict[str, Regions]]:
        """Return the style term and its gradient with respect to the sums."""
        counts = {
            layer: tuple(losses.area(mask) for mask in targets.shares[layer])
            if targets.shares
            else (self._positions(images, layer),)
            for layer in sums
        }
        with tf.GradientTape() as tape:
            tape.watch(sums)
            got = {layer: _over(regions, counts[layer]) for layer, regions in sums.items()}
            style = self._objective.style_term(got, targets)
        return style, tape.gradient(style, sums, unconnected_gradients="zero")

    def _per_square(self, energies: dict[str, tf.Tensor], targets: Targets) -> dict[str, tf.Tensor]:
        """Return what a squared difference weighs at each content layer, (1,)."""
        weights = {}
        for layer, target in targets.content.items():
            weight = targets.weights["content"] * targets.weights[f"content.{layer}"]
            values = losses.values_in(target)
            one = losses.scale_for(energies[layer] / values, self._objective.normalization)
            weights[layer] = weight * one / values
        return weights

    def _ascend(
        self,
        found: _Descent,
        pull: dict[str, Regions],
        per_square: dict[str, tf.Tensor],
        targets: Targets,
    ) -> Array:
        """Back-propagate through the stages, deepest first: gradient of the image."""
        below, last = _NOTHING, len(self._stages)
        for i in reversed(range(len(self._stages))):
            stage, x = self._stages[i], found.inputs.pop()
            gradient = np.zeros(x.shape, x.dtype)
            pulls = {layer: value for layer, value in pull.items() if layer in stage.names}
            for tile in stage.tiles(x.shape[1], x.shape[2], self.tile):
                alive.get()()
                content, shares = self._parts(stage, tile, targets)
                arriving = tf.constant(below[tile.owns(stage.grid)] if i + 1 < last else _NOTHING)
                scales = {layer: per_square[layer] for layer in content}
                summed = self._up[i](
                    tf.constant(x[tile.reads]),
                    tf.constant(tile.window),
                    content,
                    shares,
                    pulls,
                    scales,
                    arriving,
                    tf.constant(gradient[tile.reads]),
                )
                gradient[tile.reads] = np.asarray(summed)
            below = gradient
        return below

    def _backward(  # noqa: PLR0917  # a graph's arguments: traced once, called in one place
        self, index: int, x: tf.Tensor, window: tf.Tensor, content: Any, shares: Any,
        pulls: Any, scales: Any, arriving: tf.Tensor, before: tf.Tensor,
    ) -> tf.Tensor:  # fmt: skip
        """Return the gradient of one tile's input, halo included, added to what is there."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            own, sums, squares = self._forward(index, x, window, content, shares)
            parts = [tf.reduce_sum(scales[layer] * value) for layer, (value, _) in squares.items()]
            for layer, regions in pulls.items():
                for force, got in zip(regions, sums[layer], strict=True):
                    parts.append(tf.reduce_sum(force.mean * got.mean))
                    parts.append(tf.reduce_sum(force.gram * got.gram))
            if index + 1 < len(self._stages):
                last = own[self._stages[index].names[-1]]
                drawn = tf.cast(arriving, tf.float32) * tf.cast(last, tf.float32)
                parts.append(tf.reduce_sum(drawn))
            surrogate = tf.add_n(parts)
        return before + tape.gradient(surrogate, x)

    def _positions(self, image: tf.Tensor, layer: str) -> tf.Tensor:
        """Return the number of positions of ``layer``, (1,)."""
        stage = next(each for each in self._stages if layer in each.names)
        stride = stage.stride * stage.stride_of(layer)
        return tf.constant([float((image.shape[1] // stride) * (image.shape[2] // stride))])


def _over(sums: Regions, counts: tuple[tf.Tensor, ...]) -> Regions:
    """Return the moments that sums over ``counts`` positions make."""
    return tuple(
        Moments(part.mean / count[:, None], part.gram / count[:, None, None])
        for part, count in zip(sums, counts, strict=True)
    )


def _place(canvas: Array | None, own: tf.Tensor, tile: Tile, x: Array, stride: int) -> Array:
    """Put a tile's own part into the whole map, which begins with the first tile."""
    if canvas is None:
        size = (1, x.shape[1] // stride, x.shape[2] // stride, own.shape[3])
        canvas = np.empty(size, own.dtype.as_numpy_dtype)
    canvas[tile.owns(stride)] = np.asarray(own)
    return canvas
