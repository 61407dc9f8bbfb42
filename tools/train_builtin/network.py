"""The network in training: VGG19's convolutions, each with a batch normalisation to fold away."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin import layout
from tools.train_builtin.layout import INPUT_SCALE, Weights
from tools.train_builtin.noise import Array, Rng

MEANS = (103.939, 116.779, 123.68)
EPSILON = 1e-3


def network_input(pictures: Any) -> Any:
    """Return what the training network takes of RGB in [0, 1]: (BGR - means) / 64."""
    return (tf.reverse(pictures, [-1]) * 255.0 - np.array(MEANS, np.float32)) / INPUT_SCALE


def pool(x: Any, how: str) -> Any:
    """Halve (B, h, w, C) by ``max`` or ``avg``."""
    return (tf.nn.max_pool2d if how == "max" else tf.nn.avg_pool2d)(x, 2, 2, "VALID")


class Features(tf.Module):  # type: ignore[misc]
    """Sixteen convolutions; normalised with each batch's own statistics while training."""

    def __init__(self, weights: Weights, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.kernels, self.gammas, self.betas = {}, {}, {}
        for name, (kernel, _) in weights.items():
            width = kernel.shape[-1]
            self.kernels[name] = tf.Variable(kernel, name=f"{name}/kernel")
            self.gammas[name] = tf.Variable(tf.ones(width), name=f"{name}/gamma")
            self.betas[name] = tf.Variable(tf.zeros(width), name=f"{name}/beta")

    def __call__(self, pictures: Any) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
        """Return activations by layer (B, h, w, C), and each layer's batch mean and variance."""
        x = network_input(pictures)
        found: dict[str, Any] = {}
        moments: dict[str, tuple[Any, Any]] = {}
        for name, kernel in self.kernels.items():
            if name.endswith("conv1") and found:
                x = pool(x, self.pooling)
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
            x, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
                x, self.gammas[name], self.betas[name], epsilon=EPSILON, is_training=True
            )
            x = found[name] = tf.nn.relu(x)
            moments[name] = mean, variance
        return found, moments

    def folded(self, pictures: Array) -> Weights:
        """Return plain convolutions with the normalisation by ``pictures``' statistics inside."""
        _, moments = self(tf.constant(pictures))
        weights: Weights = {}
        for name, variable in self.kernels.items():
            mean, variance = (value.numpy() for value in moments[name])
            gain = self.gammas[name].numpy() / np.sqrt(variance + EPSILON)
            kernel = variable.numpy() * gain
            if not weights:
                kernel = kernel / INPUT_SCALE
            weights[name] = (kernel, self.betas[name].numpy() - mean * gain)
        return weights


def whitened(
    pictures: Array,
    rng: Rng,
    pooling: str,
    *,
    power: float = 1.0,
    floor: float = 0.02,
    patches: int = 30_000,
    widths: tuple[int, ...] = layout.WIDTHS,
) -> Weights:
    """Return untrained weights that fit the data: random directions of whitened patches.

    Random filters mostly see the mean brightness, since neighbouring pixels agree; after a few
    layers every channel says the same. Here each layer's patches are measured, and the filters
    are random rotations of their leading principal components at equal variance, so that even
    an untrained deep layer sees edges, colours and arrangements. (In the spirit of LSUV, Mishkin
    & Matas 2016, and of the data-dependent PCA start of Krähenbühl et al. 2016.)
    """
    x = network_input(tf.constant(pictures))
    weights: Weights = {}
    for name, before, after in layout.layers(widths):
        if name.endswith("conv1") and weights:
            x = pool(x, pooling)
        seen = sample_patches(x.numpy(), rng, patches)
        mean = seen.mean(0)
        values, vectors = np.linalg.eigh(np.cov(seen.T))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        count = min(len(values), 2 * after)
        gain = (values[:count] + floor * values.mean()) ** (-power / 2)
        basis, _ = np.linalg.qr(rng.standard_normal((max(count, after),) * 2))
        flat = (vectors[:, :count] * gain) @ basis[:count, :after]
        flat /= ((seen - mean) @ flat).std(0)
        kernel = flat.reshape(3, 3, before, after).astype(np.float32)
        bias = (-mean @ flat).astype(np.float32)
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
        weights[name] = (kernel, bias)
    return weights


def sample_patches(x: Array, rng: Rng, count: int) -> Array:
    """Return (count, 9 * C) patches of the maps (B, h, w, C), rows in a kernel's order."""
    images, height, width, _ = x.shape
    which = rng.integers(images, size=count)
    row, column = rng.integers(1, height - 1, count), rng.integers(1, width - 1, count)
    near = [x[which, row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.stack(near, 1).reshape(count, -1)
