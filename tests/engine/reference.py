"""The mathematics of the engine once more: numpy, float64, written from the papers' formulas.

Nothing here is shared with the engine: convolutions are nine matrix products, gradients are
written out by hand, and the source tutorials' formulas stand in their own units (BGR, 0..255).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kernels = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

MEANS = np.array([103.939, 116.779, 123.68])  # BGR, of the Caffe models
BLOCKS = (2, 2, 4, 4, 4)
ORDER = [
    f"block{block}_{part}"
    for block, count in enumerate(BLOCKS, 1)
    for part in (*(f"conv{i}" for i in range(1, count + 1)), "pool")
]
STYLE_LAYERS = [f"block{block}_conv1" for block in range(1, 6)]


def bgr_of(rgb: NDArray[np.floating]) -> Array:
    """Return RGB in [0, 1] as mean-subtracted BGR in 0..255."""
    return np.asarray(rgb[..., ::-1].astype(np.float64) * 255.0 - MEANS)


def rgb_of(bgr: Array) -> Array:
    """Return mean-subtracted BGR in 0..255 as RGB in [0, 1]."""
    return np.asarray((bgr + MEANS)[..., ::-1] / 255.0)


# --- layers --------------------------------------------------------------------------------------


def padded(x: Array, edge: str) -> Array:
    """Add one pixel around (B, H, W, C): zeros, or the border once more."""
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    return np.pad(x, around, "edge") if edge == "replicate" else np.pad(x, around)


def convolve(x: Array, kernel: NDArray[np.floating]) -> Array:
    """Correlate (B, H+2, W+2, in) with (3, 3, in, out), no padding: (B, H, W, out)."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    wide = kernel.astype(np.float64)
    y = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(3):
        for j in range(3):
            y += np.tensordot(x[:, i : i + height, j : j + width], wide[i, j], 1)
    return y


def convolve_back(upstream: Array, kernel: NDArray[np.floating]) -> Array:
    """Return the gradient of ``convolve``'s input, (B, H+2, W+2, in)."""
    batch, height, width, _ = upstream.shape
    wide = kernel.astype(np.float64)
    gradient = np.zeros((batch, height + 2, width + 2, kernel.shape[2]))
    for i in range(3):
        for j in range(3):
            gradient[:, i : i + height, j : j + width] += np.tensordot(upstream, wide[i, j].T, 1)
    return gradient


def _unpad(gradient: Array, edge: str) -> Array:
    if edge == "replicate":
        gradient[:, 1] += gradient[:, 0]
        gradient[:, -2] += gradient[:, -1]
        gradient[:, :, 1] += gradient[:, :, 0]
        gradient[:, :, -2] += gradient[:, :, -1]
    return gradient[:, 1:-1, 1:-1]


def _quarters(x: Array) -> Array:
    """Return the 2x2 windows of (B, H, W, C) as (4, B, H//2, W//2, C)."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return np.stack([x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)])


def _pool(x: Array, pooling: str) -> tuple[Array, Callable[[Array], Array]]:
    windows = _quarters(x)
    y = windows.mean(0) if pooling == "avg" else windows.max(0)

    def back(upstream: Array) -> Array:
        if pooling == "avg":
            parts = np.repeat(upstream[None] / 4.0, 4, 0)
        else:
            parts = upstream * (np.arange(4)[:, None, None, None, None] == windows.argmax(0))
        gradient = np.zeros_like(x)
        height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        for part, (i, j) in zip(parts, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            gradient[:, i:height:2, j:width:2] = part
        return gradient

    return y, back


@dataclass
class Net:
    """VGG19 forward and backward over mean-subtracted BGR images (B, H, W, 3)."""

    kernels: Kernels
    pooling: str = "max"
    edge: str = "zero"
    """zero, first, or replicate."""
    _backs: list[tuple[str, Callable[[Array], Array]]] = field(default_factory=list)

    def forward(self, bgr: Array, layers: Sequence[str]) -> dict[str, Array]:
        """Return the post-ReLU features of ``layers`` and remember the way back."""
        self._backs, x, found = [], bgr.astype(np.float64), {}
        for name in ORDER[: max(ORDER.index(layer) for layer in layers) + 1]:
            if name.endswith("pool"):
                x, back = _pool(x, self.pooling)
            else:
                x, back = self._convolution(name, x)
            self._backs.append((name, back))
            if name in layers:
                found[name] = x
        return found

    def _convolution(self, name: str, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        kernel, bias = self.kernels[name]
        first = self.edge == "first" and name == "block1_conv1"
        edge = "replicate" if first or self.edge == "replicate" else "zero"
        y = np.maximum(convolve(padded(x, edge), kernel) + bias, 0.0)
        return y, lambda up: _unpad(convolve_back(up * (y > 0.0), kernel), edge)

    def backward(self, gradients: Mapping[str, Array]) -> Array:
        """Return the image's gradient of a loss that has ``gradients`` at its features."""
        x = np.zeros(1)  # nothing is pulled below the deepest layer
        for name, back in reversed(self._backs):
            x = back(x + gradients[name] if name in gradients else x)
        return x


# --- losses: value and gradient with respect to the features -------------------------------------


def gram(features: Array) -> Array:
    """Return F Fᵀ over the number of positions: (B, h, w, C) -> (B, C, C)."""
    positions = features.shape[1] * features.shape[2]
    return np.asarray(np.einsum("bijc,bijd->bcd", features, features) / positions)


def covariance(features: Array) -> Array:
    """Return the covariance of the channels over positions, (B, C, C)."""
    mean = features.mean((1, 2), keepdims=True)
    return gram(features - mean)


def content(features: Array, target: Array, *, relative: bool) -> tuple[Array, Array]:
    """Return mean((F-P)²), relative: over mean(P²), and its gradient."""
    scale = np.square(target).mean((1, 2, 3)) if relative else np.ones(len(target))
    difference = features - target
    loss = np.square(difference).mean((1, 2, 3)) / scale
    return loss, 2.0 * difference / difference[0].size / scale[:, None, None, None]


def gram_style(features: Array, style: Array, *, relative: bool) -> tuple[Array, Array]:
    """Return mean((G-A)²), relative: over mean(A²), and its gradient."""
    wanted = gram(style)
    scale = np.square(wanted).mean((1, 2)) if relative else np.ones(len(wanted))
    difference = gram(features) - wanted
    loss = np.square(difference).mean((1, 2)) / scale
    force = 4.0 * difference / difference[0].size / scale[:, None, None]
    positions = features.shape[1] * features.shape[2]
    return loss, np.einsum("bijc,bcd->bijd", features, force) / positions


def moments_style(features: Array, style: Array, *, relative: bool) -> tuple[Array, Array]:
    """Return the distances of covariances and of means, and their gradient."""
    wanted = covariance(style)
    mean, wanted_mean = features.mean((1, 2)), style.mean((1, 2))
    variance = np.einsum("bcc->bc", wanted).mean(1)
    by_mean = variance if relative else np.ones(len(wanted))
    by_covariance = np.square(wanted).mean((1, 2)) if relative else np.ones(len(wanted))
    difference = covariance(features) - wanted
    loss = np.square(mean - wanted_mean).mean(1) / by_mean
    loss += np.square(difference).mean((1, 2)) / by_covariance
    positions = features.shape[1] * features.shape[2]
    pull = 2.0 * (mean - wanted_mean) / mean.shape[1] / by_mean[:, None] / positions
    force = 4.0 * difference / difference[0].size / by_covariance[:, None, None] / positions
    centred = features - mean[:, None, None]
    return loss, pull[:, None, None] + np.einsum("bijc,bcd->bijd", centred, force)


def wasserstein_style(features: Array, style: Array, *, relative: bool) -> Array:
    """Return |m-m*|² + tr(A + T - 2 (A T)½) over the channels; the root by eigenvalues of A T."""
    got, wanted = covariance(features), covariance(style)
    scale = np.einsum("bcc->bc", wanted).mean(1) if relative else np.ones(len(wanted))
    cross = np.sqrt(np.maximum(np.linalg.eigvals(got @ wanted).real, 0.0)).sum(1)
    spread = np.einsum("bcc->b", got) + np.einsum("bcc->b", wanted) - 2.0 * cross
    mean = np.square(features.mean((1, 2)) - style.mean((1, 2))).mean(1)
    return np.asarray((mean + spread / features.shape[3]) / scale)


def finite_differences(function: Callable[[Array], Array], at: Array, width: float) -> Array:
    """Return the gradient of a sum of losses by central differences, element by element."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        there = at.copy()
        there[index] += width
        ahead = function(there).sum()
        there[index] -= 2.0 * width
        gradient[index] = (ahead - function(there).sum()) / (2.0 * width)
    return gradient


# --- the tutorials, in their own units -----------------------------------------------------------


@dataclass
class Tutorial:
    """Loss, gradient and optimizer of a source, over mean-subtracted BGR images (1, H, W, 3)."""

    net: Net
    content_layer: str
    style_layers: Sequence[str]
    photograph: Array
    painting: Array

    def __post_init__(self) -> None:
        target = self.net.forward(self.photograph, [self.content_layer])
        self._content = target[self.content_layer]
        self._style = self.net.forward(self.painting, self.style_layers)

    def loss(self, bgr: Array) -> tuple[float, float, float, Array]:
        """Return 1e3 content + 1e-2 style, both terms, and the gradient of the image."""
        features = self.net.forward(bgr, [self.content_layer, *self.style_layers])
        value, force = content(features[self.content_layer], self._content, relative=False)
        photograph, gradients = 1e3 * value[0], {self.content_layer: 1e3 * force}
        painting = 0.0
        for layer in self.style_layers:
            share = 1e-2 / len(self.style_layers)
            value, force = gram_style(features[layer], self._style[layer], relative=False)
            painting += share * value[0]
            gradients[layer] = gradients.get(layer, 0.0) + share * force
        return photograph + painting, photograph, painting, self.net.backward(gradients)

    def run(self, start: Array, steps: int) -> tuple[Array, Array, list[float]]:
        """Take the source's Adam steps: the last image, the best image, the losses.

        ``tf.train.AdamOptimizer(5, beta1=0.99, epsilon=0.1)``, clipped to the valid range.
        """
        image, best = start.copy(), start
        losses: list[float] = []
        first, second = np.zeros_like(image), np.zeros_like(image)
        for step in range(1, steps + 1):
            total, _, _, gradient = self.loss(image)
            if total < min(losses, default=np.inf):
                best = image
            losses.append(total)
            first = 0.99 * first + 0.01 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            rate = 5.0 * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.99**step)
            image = image - rate * first / (np.sqrt(second) + 0.1)
            image = np.clip(image, -MEANS, 255.0 - MEANS)
        return image, best, losses
