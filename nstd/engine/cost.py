"""What a step costs: operations counted from the layers' shapes, and what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from nstd.engine.vgg import LAYERS, stride_of

if TYPE_CHECKING:
    from nstd.engine.vgg import Kernels

PEAK_SIDE = 4096
"""Side of the matrix product that stands for the machine's peak."""


def layer_flops(kernels: Kernels, deepest: str, height: int, width: int) -> Mapping[str, int]:
    """Return the operations of each convolution down to ``deepest`` on (height, width) pixels.

    A multiplication and an addition count as two. Counted are direct convolutions, whatever
    algorithm runs: a step that saves multiplications shows as a higher share of the peak.
    """
    found = {}
    for name in LAYERS[: LAYERS.index(deepest) + 1]:
        if name in kernels:
            rows, columns, inputs, outputs = kernels[name][0].shape
            positions = (height // stride_of(name)) * (width // stride_of(name))
            found[name] = 2 * rows * columns * inputs * outputs * positions
    return found


def step_flops(kernels: Kernels, deepest: str, height: int, width: int) -> int:
    """Return the operations of one loss and gradient: the network forward, and back to the image.

    Weights are fixed, so the way back costs as much as the way forward. Losses are left out: the
    Gram matrices add about one in a hundred.
    """
    return 2 * sum(layer_flops(kernels, deepest, height, width).values())


def matrix_peak(
    *, side: int = PEAK_SIDE, tries: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the operations a second of a (side, side) float32 matrix product, best of tries."""
    a, b = tf.random.stateless_normal((2, side, side), seed=(1, 2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)[:1]), autograph=False)
    product().numpy()  # traced, and the device is awake
    seconds = []
    for _ in range(tries):
        began = clock()
        product().numpy()
        seconds.append(clock() - began)
    return 2.0 * side**3 / min(seconds)
