"""Content, style and total-variation losses: pure functions of feature maps.

Shapes: a feature map is (B, h, w, C), float32 or bfloat16; every loss is (B,) float32, one per
image, so that images in a batch never mix. Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic
Style" (2015), for content and Gram; Li et al., "Demystifying Neural Style Transfer" (2017), for
mean and covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

if TYPE_CHECKING:
    from nstd.engine.params import Normalization, Statistic


class Moments(NamedTuple):
    """First and second moment of a layer over its positions: all that a style loss reads."""

    mean: tf.Tensor  # (B, C)
    gram: tf.Tensor  # (B, C, C), the mean of f fᵀ: the Gram matrix over the number of positions

    @property
    def covariance(self) -> tf.Tensor:
        """The second moment about the mean, (B, C, C)."""
        return self.gram - self.mean[:, :, None] * self.mean[:, None, :]


def gram(features: tf.Tensor) -> tf.Tensor:
    """Return the Gram matrix divided by the number of positions: (B, h, w, C) -> (B, C, C)."""
    return moments(features).gram


def moment_sums(features: tf.Tensor, share: tf.Tensor | None = None) -> Moments:
    """Return the sums of f and of f fᵀ over positions; ``share`` (B, h, w, 1) weighs positions.

    Sums add up over tiles, which is what makes tiling exact.
    """
    if share is not None:
        share = tf.reshape(share, (tf.shape(share)[0], -1, 1))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def summed(maps: tf.Tensor) -> tuple[Moments, object]:
        shape = tf.shape(maps)
        flat = tf.reshape(maps, (shape[0], -1, maps.shape[3]))  # (B, h*w, C)

        def back(mean: tf.Tensor, gram: tf.Tensor) -> tf.Tensor:
            # w (f (U + Uᵀ) + u): one product, in the features' own precision
            both = tf.cast(gram + tf.linalg.matrix_transpose(gram), maps.dtype)
            slope = tf.matmul(flat, both) + tf.cast(mean, maps.dtype)[:, None]
            if share is not None:
                slope *= tf.cast(share, maps.dtype)
            return tf.reshape(slope, shape)

        wide = tf.cast(flat, tf.float32)
        weighted = wide if share is None else wide * share
        # a product with ones: a third of reduce_sum's time
        ones = tf.ones((shape[0], 1, tf.shape(wide)[1]))
        mean = tf.matmul(ones, weighted)[:, 0]
        return Moments(mean, tf.matmul(weighted, wide, transpose_a=True)), back

    return Moments(*summed(features))


def moments(features: tf.Tensor, share: tf.Tensor | None = None) -> Moments:
    """Return mean and second moment over positions, weighted by ``share`` (B, h, w, 1) if given."""
    sums = moment_sums(features, share)
    if share is None:
        shape = tf.shape(features)
        count = tf.cast(shape[1] * shape[2], tf.float32) * tf.ones((shape[0],))
    else:
        count = area(share)
    return Moments(sums.mean / count[:, None], sums.gram / count[:, None, None])


def area(share: tf.Tensor) -> tf.Tensor:
    """Return the positions that a mask (B, h, w, 1) covers, (B,); a trifle where it is empty."""
    return tf.maximum(tf.reduce_sum(share, (1, 2, 3)), 1e-6)


def content_loss(features: tf.Tensor, target: tf.Tensor, normalization: Normalization) -> tf.Tensor:
    """Return mean((F-P)²), relative: over mean(P²). (B, h, w, C) twice -> (B,)."""
    loss = tf.reduce_mean(squared_difference(features, target), (1, 2, 3))
    return loss * content_scale(target, normalization)


def content_scale(target: tf.Tensor, normalization: Normalization) -> tf.Tensor:
    """Return what the mean squared difference to ``target`` is multiplied by, (B,)."""
    return scale_for(energy(target) / values_in(target), normalization)


def energy(features: tf.Tensor) -> tf.Tensor:
    """Return the sum of squares of (B, h, w, C), (B,)."""
    return tf.reduce_sum(tf.square(tf.cast(features, tf.float32)), (1, 2, 3))


def values_in(features: tf.Tensor) -> tf.Tensor:
    """Return how many values each image of (B, h, w, C) has, a float32 scalar."""
    return tf.cast(tf.reduce_prod(tf.shape(features)[1:]), tf.float32)


def scale_for(mean_square: tf.Tensor, normalization: Normalization) -> tf.Tensor:
    """Return what a mean squared difference to a target of that mean square is multiplied by."""
    if normalization == "gatys":
        return tf.ones_like(mean_square)
    return 1.0 / (mean_square + _TINY)


def squared_difference(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Return (F-P)² in float32, whatever the maps' precision."""
    wide = (tf.cast(each, tf.float32) for each in (features, target))
    return tf.math.squared_difference(*wide)


def style_loss(
    got: Moments, target: Moments, statistic: Statistic, normalization: Normalization
) -> tf.Tensor:
    """Return the distance of two layers' statistics: (B,).

    ``gram``: mean((G-G*)²); ``moments``: the same of the covariances plus mean((m-m*)²);
    ``wasserstein``: the squared 2-Wasserstein distance of the two Gaussians. Relative: each term
    over the mean square (the mean variance, for means) of the target, so that it is a number
    without unit, independent of width and activation scale. A target that hardly varies (a plain
    colour, a single position) is taken to vary by 1e-4 of its second moment.
    """
    relative = normalization == "relative"
    if statistic == "gram":
        return _mean_square(got.gram, target.gram, relative=relative)
    variance = tf.reduce_mean(tf.linalg.diag_part(target.covariance), 1) + _TINY
    variance += _FLAT * tf.reduce_mean(tf.linalg.diag_part(target.gram), 1)
    mean = tf.reduce_mean(tf.math.squared_difference(got.mean, target.mean), 1)
    if relative:
        mean = mean / variance
    if statistic == "moments":
        floor = _FLAT * tf.reduce_mean(tf.square(target.gram), (1, 2))
        return mean + _mean_square(
            got.covariance, target.covariance, relative=relative, floor=floor
        )
    spread = _bures(got.covariance, target.covariance)
    return mean + (spread / variance if relative else spread)


def _mean_square(
    got: tf.Tensor, target: tf.Tensor, *, relative: bool, floor: tf.Tensor | float = 0.0
) -> tf.Tensor:
    loss = tf.reduce_mean(tf.math.squared_difference(got, target), (1, 2))
    if not relative:
        return loss
    return loss / (tf.reduce_mean(tf.square(target), (1, 2)) + floor + _TINY)


def _bures(got: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Return the covariance part of W2² as a mean over channels: (B,).

    trace(A + T - 2 (T½ A T½)½) / C, the root by eigenvalues. Both are lifted by a small multiple
    of the target's mean variance: a ReLU layer has channels that never fire.
    """
    channels = tf.cast(tf.shape(target)[1], tf.float32)
    lift = 1e-4 * tf.linalg.trace(target) / channels + _TINY
    eye = tf.eye(tf.shape(target)[1]) * lift[:, None, None]
    got, target = got + eye, target + eye
    values, vectors = tf.linalg.eigh(target)
    root = tf.matmul(
        vectors * tf.sqrt(tf.maximum(values, 0.0))[:, None, :], vectors, transpose_b=True
    )
    inner = tf.matmul(tf.matmul(root, got), root)
    cross = _trace_sqrt((inner + tf.linalg.matrix_transpose(inner)) / 2.0)
    return (tf.linalg.trace(got) + tf.linalg.trace(target) - 2.0 * cross) / channels


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _trace_sqrt(matrix: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return trace(M½) of positive matrices; its gradient M⁻½ / 2 is stable, eigh's is not."""
    values, vectors = tf.linalg.eigh(matrix)
    roots = tf.sqrt(tf.maximum(values, _TINY))

    def back(upstream: tf.Tensor) -> tf.Tensor:
        inverse = tf.matmul(vectors / roots[:, None, :], vectors, transpose_b=True)
        return 0.5 * upstream[:, None, None] * inverse

    return tf.reduce_sum(roots, 1), back


def tv_loss(images: tf.Tensor) -> tf.Tensor:
    """Return the mean squared difference of neighbours, across plus down: (B, H, W, 3) -> (B,)."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def varied(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        across, down = x[:, :, 1:] - x[:, :, :-1], x[:, 1:] - x[:, :-1]
        means = [tf.reduce_mean(tf.square(each), (1, 2, 3)) for each in (across, down)]

        def back(upstream: tf.Tensor) -> tf.Tensor:
            # by padding: the gradients of the four slices take as long as a small convolution
            share = [2.0 / tf.cast(tf.size(each[0]), tf.float32) for each in (across, down)]
            a, d = across * share[0], down * share[1]
            return upstream[:, None, None, None] * (back_across(a) + back_down(d))

        return tf.add_n(means), back

    return varied(images)


def back_across(slopes: tf.Tensor) -> tf.Tensor:
    """Return the gradient of pixels from that of their differences to the left neighbour."""
    return tf.pad(slopes, _LEFT) - tf.pad(slopes, _RIGHT)


def back_down(slopes: tf.Tensor) -> tf.Tensor:
    """Return the gradient of pixels from that of their differences to the neighbour above."""
    return tf.pad(slopes, _TOP) - tf.pad(slopes, _BOTTOM)


_TOP, _BOTTOM = [[0, 0], [1, 0], [0, 0], [0, 0]], [[0, 0], [0, 1], [0, 0], [0, 0]]
_LEFT, _RIGHT = [[0, 0], [0, 0], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 1], [0, 0]]


def range_loss(images: tf.Tensor) -> tf.Tensor:
    """Return the mean squared distance to [0, 1]: (B, H, W, 3) -> (B,).

    For objectives that clip: what lies outside gets no gradient from the network, and L-BFGS
    stalls unless something pulls it back.
    """
    return tf.reduce_mean(tf.square(images - tf.clip_by_value(images, 0.0, 1.0)), (1, 2, 3))


_TINY = 1e-12
_FLAT = 1e-4
"""Least variance of a style, as a share of its second moment: without it a plain colour as a style
gives losses of 1e14, which are rounding errors."""
