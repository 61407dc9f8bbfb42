"""The network in training: VGG19's convolutions, each with a batch normalisation to fold away.

The first three channels of every layer are not learned: they hand the colours on, blurred a little
more by each layer. So every style layer's statistics hold the palette at its own scale, and every
layer can look at the picture itself, shrunk to its scale, besides what the layers below made of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin import layout
from tools.train_builtin.layout import INPUT_SCALE, Weights
from tools.train_builtin.noise import Array, Rng

MEANS = (103.939, 116.779, 123.68)
EPSILON = 1e-3
COLOURS = 3
COLOUR_GAIN, COLOUR_OFFSET = 0.4, 1.2
"""Deviation and mean of the colours handed on: three deviations above zero, for the ReLU."""

Kernels = dict[str, Array]
"""Layer -> (3, 3, in, out - COLOURS): the learned part."""


def network_input(pictures: Any) -> Any:
    """Return what the training network takes of RGB in [0, 1]: (BGR - means) / 64."""
    return (tf.reverse(pictures, [-1]) * 255.0 - np.array(MEANS, np.float32)) / INPUT_SCALE


def pool(x: Any, how: str) -> Any:
    """Halve (B, h, w, C) by ``max`` or ``avg``."""
    return (tf.nn.max_pool2d if how == "max" else tf.nn.avg_pool2d)(x, 2, 2, "VALID")


def handing_on(before: int) -> Array:
    """Return the fixed kernel (3, 3, before, COLOURS) that blurs the first channels."""
    row = np.array([0.25, 0.5, 0.25], np.float32)
    kernel = np.zeros((3, 3, before, COLOURS), np.float32)
    for channel in range(COLOURS):
        kernel[:, :, channel, channel] = np.outer(row, row)
    return kernel


class Features(tf.Module):  # type: ignore[misc]
    """Sixteen convolutions; normalised with each batch's own statistics while training."""

    def __init__(self, kernels: Kernels, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.kernels, self.gammas, self.betas = {}, {}, {}
        for name, kernel in kernels.items():
            width = kernel.shape[-1]
            self.kernels[name] = tf.Variable(kernel, name=f"{name}/kernel")
            self.gammas[name] = tf.Variable(tf.ones(width), name=f"{name}/gamma")
            self.betas[name] = tf.Variable(tf.zeros(width), name=f"{name}/beta")

    def whole(self, name: str) -> tuple[Any, Any, Any]:
        """Return kernel, gain and offset of a layer, with the channels that are not learned."""
        learned = self.kernels[name]
        return (
            tf.concat([handing_on(learned.shape[2]), learned], -1),
            tf.concat([tf.fill([COLOURS], COLOUR_GAIN), self.gammas[name]], 0),
            tf.concat([tf.fill([COLOURS], COLOUR_OFFSET), self.betas[name]], 0),
        )

    def __call__(
        self, pictures: Any, kind: Any = tf.float32
    ) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
        """Return activations by layer (B, h, w, C), and each layer's batch mean and variance.

        ``kind`` is the type of kernels and activations; parameters and statistics are float32.
        """
        x = tf.cast(network_input(pictures), kind)
        found: dict[str, Any] = {}
        moments: dict[str, tuple[Any, Any]] = {}
        for name in self.kernels:
            if name.endswith("conv1") and found:
                x = pool(x, self.pooling)
            kernel, gain, offset = self.whole(name)
            x = tf.nn.conv2d(x, tf.cast(kernel, kind), 1, "SAME")
            x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=gain, offset=offset, mean=[], variance=[], epsilon=EPSILON,
                is_training=True,
            )  # fmt: skip
            x = found[name] = tf.nn.relu(x)
            moments[name] = mean, variance
        return found, moments

    def folded(self, pictures: Any) -> Weights:
        """Return plain convolutions with the normalisation by ``pictures``' statistics inside."""
        _, moments = self(pictures)
        weights: Weights = {}
        for name in self.kernels:
            mean, variance = (value.numpy() for value in moments[name])
            kernel, scale, offset = (value.numpy() for value in self.whole(name))
            gain = scale / np.sqrt(variance + EPSILON)
            kernel = kernel * gain / (1.0 if weights else INPUT_SCALE)
            weights[name] = (kernel, offset - mean * gain)
        return weights


def whitened(
    pictures: Any,
    rng: Rng,
    pooling: str,
    *,
    floor: float = 0.02,
    patches: int = 30_000,
    widths: tuple[int, ...] = layout.WIDTHS,
) -> Kernels:
    """Return untrained kernels that fit the data: random directions of whitened patches.

    Random filters mostly see the mean brightness, since neighbouring pixels agree; after a few
    layers every channel says the same. Here each layer's patches are measured, and the filters
    are random rotations of their leading principal components at equal variance, so that even
    an untrained deep layer sees edges, colours and arrangements. (In the spirit of LSUV, Mishkin
    & Matas 2016, and of the data-dependent PCA start of Krähenbühl et al. 2016.)
    """
    x = network_input(pictures)
    kernels: Kernels = {}
    for name, before, after in layout.layers(widths):
        if name.endswith("conv1") and kernels:
            x = pool(x, pooling)
        learned = after - COLOURS
        seen = sample_patches(x.numpy(), rng, patches)
        spread = np.cov(seen.T)
        values, vectors = leading(spread, min(len(spread), 2 * learned), rng)
        gain = (values + floor * spread.trace() / len(spread)) ** -0.5
        basis, _ = np.linalg.qr(rng.standard_normal((max(len(values), learned),) * 2))
        flat = (vectors * gain) @ basis[: len(values), :learned]
        flat /= (seen @ flat).std(0)
        kernels[name] = flat.reshape(3, 3, before, learned).astype(np.float32)
        kernel = np.concatenate([handing_on(before), kernels[name]], -1)
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scale = np.r_[np.full(COLOURS, COLOUR_GAIN), np.ones(learned)].astype(np.float32)
        offset = np.r_[np.full(COLOURS, COLOUR_OFFSET), np.zeros(learned)].astype(np.float32)
        x = tf.nn.relu((x - mean) * tf.math.rsqrt(variance + EPSILON) * scale + offset)
    return kernels


def leading(matrix: Array, count: int, rng: Rng) -> tuple[Array, Array]:
    """Return about the ``count`` largest eigenvalues of a covariance, with their vectors.

    By random projection and two power steps (Halko, Martinsson & Tropp 2011): all 1,728 of a deep
    layer's take LAPACK half a minute.
    """
    basis = rng.standard_normal((len(matrix), min(len(matrix), count + 16)))
    for _ in range(2):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, turned = np.linalg.eigh(basis.T @ matrix @ basis)
    return np.maximum(values[-count:], 0), (basis @ turned)[:, -count:]


def sample_patches(x: Array, rng: Rng, count: int) -> Array:
    """Return (count, 9 * C) patches of the maps (B, h, w, C), rows in a kernel's order."""
    images, height, width, _ = x.shape
    which = rng.integers(images, size=count)
    row, column = rng.integers(1, height - 1, count), rng.integers(1, width - 1, count)
    near = [x[which, row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.stack(near, 1).reshape(count, -1)
