"""The fixed objective that optimizers are compared on, and the plain loops they are compared with.

J = content + 20 * style: the relative distance at block4_conv2, and the mean over block1..5_conv1
of the relative distance of Gram matrices, on VGG19 as Keras builds it (zero padding), at full
size. Judged are pictures in eight bits, as they are delivered.

Adam is the tutorials': rate 5/255, beta1 .99, clipped after each step, from the photograph.
L-BFGS is neural-style's: unit steps without a line search, the first one scaled by the gradient's
1-norm, 100 pairs, no clipping before the end.
"""

from __future__ import annotations

import dataclasses

import kit
import numpy as np
import tensorflow as tf

from nstd.engine import losses
from nstd.engine.objective import Objective, Targets
from nstd.engine.optimizers import Adam, Common, start
from nstd.engine.params import MAX_SIZE, STYLE_LAYERS, StyleParams
from nstd.engine.progress import StyleImage
from nstd.engine.pyramid import PyramidLevel
from nstd.engine.targets import StyleCache, TargetMaker
from nstd.engine.vgg import LAYERS, FeatureExtractor, Kernels

J = StyleParams(
    preset="benchmark",
    content_weight=1.0,
    style_weight=20.0,
    tv_weight=0.0,
    range_weight=0.0,
    style_layers=tuple((name, 1.0) for name in STYLE_LAYERS),
    statistic="gram",
    edge="zero",
    bleed=0.0,  # trimmed, a picture has other borders than the ones that it was painted with
    pyramid_min=MAX_SIZE,
)
"""J itself, at one size."""


@dataclasses.dataclass(frozen=True)
class Quality:
    """What a picture is worth."""

    j: float
    tv: float
    """Mean squared difference of neighbours, across plus down, in [0, 1]."""

    def reached_by(self, other: Quality, tolerance: float) -> bool:
        """Tell whether ``other`` is as good: J within ``tolerance``, total variation no higher."""
        return other.j <= self.j * (1.0 + tolerance) and other.tv <= self.tv


def without_dead_channels(kernels: Kernels) -> Kernels:
    """Leave out channels that are zero for every picture, and what reads them.

    Relative distances do not see them, so J is the same; a slim network in a wide file then
    computes J in a fraction of the time. Only J is computed so, never a time.
    """
    alive = np.arange(3)
    slim = {}
    for name in (layer for layer in LAYERS if layer in kernels):
        kernel, bias = (np.asarray(part) for part in kernels[name])
        here = np.flatnonzero(np.abs(kernel).sum((0, 1, 2)) + np.maximum(bias, 0.0))
        here = here if here.size else np.arange(1)
        slim[name] = (np.ascontiguousarray(kernel[:, :, alive][..., here]), bias[here])
        alive = here
    return slim


class Judge:
    """J of one pair at one size: loss, gradient, and what a finished picture is worth."""

    def __init__(self, kernels: Kernels, content: kit.Image, style: kit.Image) -> None:
        layers = [name for name, _ in (*J.content_layers, *J.layer_weights())]
        self.objective = Objective(FeatureExtractor(kernels, layers, edge=J.edge), J)
        self.start = tf.constant(content[None], tf.float32) / 255.0
        level = PyramidLevel(0, content.shape[0], content.shape[1], 1)
        reader = self.objective
        maker = TargetMaker(J, [StyleImage(style)], StyleCache(None), "", lambda _pixels: reader)
        self.targets: Targets = maker.build(self.start, level, reader)
        self.graph = tf.function(self.eager, autograph=False)
        self._terms = tf.function(
            lambda image: self.objective.terms(image, self.targets).total, autograph=False
        )

    def eager(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return J (1,) and its gradient (1, H, W, 3), without a graph."""
        terms, gradient = self.objective(image, self.targets)
        return terms.total, gradient

    def quality(self, pixels: kit.Image) -> Quality:
        """Judge (H, W, 3) uint8."""
        image = tf.constant(pixels[None], tf.float32) / 255.0
        return Quality(float(self._terms(image)[0]), float(losses.tv_loss(image)[0]))


EPSILON = 1e-7  # Keras's own
"""The tutorials' .1 is next to nothing beside their gradients; beside those of J, which is a mean
of relative distances, it would hold the image where it is."""


class PlainAdam:
    """The tutorials' loop, compiled as one graph a step, or eager as they run it."""

    def __init__(self, judge: Judge, *, compiled: bool, epsilon: float = EPSILON) -> None:
        self._judge = judge
        self._adam = Adam(5.0 / 255.0, 0.99, 0.999, epsilon, 0.0)
        self._state = (start(judge.start), self._adam.init(judge.start))
        self._take = tf.function(self._plain, autograph=False) if compiled else self._plain

    @property
    def image(self) -> tf.Tensor:
        """The picture as it stands, (1, H, W, 3)."""
        return self._state[0].image

    def step(self) -> None:
        """Take a step, to its end."""
        self._state = self._take(*self._state)
        self.image[0, 0, 0, 0].numpy()  # waits

    def _plain(
        self, common: Common, memory: dict[str, tf.Tensor]
    ) -> tuple[Common, dict[str, tf.Tensor]]:
        common, memory, _terms = self._adam.step(
            common, memory, lambda image: self._judge.objective(image, self._judge.targets)
        )
        return common, memory


class PlainLBFGS:
    """neural-style's: learning rate 1, 100 pairs, no line search, one size, nothing clipped."""

    HISTORY = 100

    def __init__(self, judge: Judge) -> None:
        self._gradient, self.image = judge.graph, judge.start
        self._pairs: list[tuple[tf.Tensor, tf.Tensor, float]] = []
        self._before: tuple[tf.Tensor, tf.Tensor] | None = None

    def step(self) -> None:
        """Take a step, to its end."""
        _total, gradient = self._gradient(self.image)
        move = self._direction(gradient)
        if self._before is None:
            move *= min(1.0, 1.0 / float(tf.reduce_sum(tf.abs(gradient))))
        self._before = (gradient, move)
        self.image += move
        self.image[0, 0, 0, 0].numpy()  # waits

    def _direction(self, gradient: tf.Tensor) -> tf.Tensor:
        if self._before is not None:
            change, step = gradient - self._before[0], self._before[1]
            curvature = _dot(change, step)
            if curvature > 1e-10:
                self._pairs = [*self._pairs[1 - self.HISTORY :], (step, change, curvature)]
        direction, shares = -gradient, []
        for step, change, curvature in reversed(self._pairs):
            shares.append(_dot(step, direction) / curvature)
            direction -= shares[-1] * change
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            direction *= curvature / _dot(change, change)
        for step, change, curvature in self._pairs:
            direction += (shares.pop() - _dot(change, direction) / curvature) * step
        return direction


def _dot(a: tf.Tensor, b: tf.Tensor) -> float:
    return float(tf.reduce_sum(a * b))
