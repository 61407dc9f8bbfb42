"""3x3 convolutions by Winograd's minimal filtering: a quarter of the multiplications.

F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
section 4.3. Each 6x6 input tile gives a 4x4 output tile through 36 products per channel pair
where the direct form takes 144. Every stage is one large matrix product: the two transforms
multiply by a constant (36, 36) and (16, 36) matrix, the products in between are 36 products of
(tiles, in) by (in, out). A CPU runs those near its peak, with any image size and no compilation.
In float32 the result differs from the direct convolution by about 2e-5 of its largest value.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_TILE = 4
_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
_A = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float64,
)


def transform_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return G k Gᵀ of a (3, 3, in, out) kernel as (36, in, out), computed in float64."""
    # as one matrix product: einsum takes a hundred times as long, ten seconds for all of VGG19
    wide = np.kron(_G, _G) @ kernel.reshape(9, -1).astype(np.float64)
    return wide.reshape(36, *kernel.shape[2:]).astype(np.float32)


def gradient_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the kernel whose convolution of the upstream gradient is the input gradient."""
    return np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _tiles(x: tf.Tensor, down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """Cut (B, H, W, C) into overlapping 6x6 tiles, stride 4: (36, B*down*across*C)."""
    shape = tf.shape(x)
    batch, height, width = shape[0], shape[1], shape[2]
    bottom, right = _TILE * (down + 1) - height, _TILE * (across + 1) - width
    x = tf.pad(x, [[0, 0], [0, bottom], [0, right], [0, 0]])
    x = tf.reshape(x, (batch, down + 1, _TILE, across + 1, _TILE, x.shape[3]))
    x = tf.transpose(x, (2, 4, 0, 1, 3, 5))  # (4, 4, B, down+1, across+1, C)
    # rows 4 and 5 of a tile are rows 0 and 1 of the tile below; columns likewise
    x = tf.concat([x[:, :, :, :-1], x[:2, :, :, 1:]], 0)
    x = tf.concat([x[:, :, :, :, :-1], x[:, :2, :, :, 1:]], 1)  # (6, 6, B, down, across, C)
    return tf.reshape(x, (36, -1))


def _valid(x: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """Convolve (B, H+2, W+2, in) with a transformed kernel, no padding: (B, H, W, out)."""
    shape = tf.shape(x)
    batch, height, width = shape[0], shape[1] - 2, shape[2] - 2
    down, across = -(-height // _TILE), -(-width // _TILE)
    tiles = tf.matmul(tf.constant(np.kron(_B, _B), tf.float32), _tiles(x, down, across))
    products = tf.matmul(tf.reshape(tiles, (36, -1, x.shape[3])), transformed)  # (36, n, out)
    y = tf.matmul(tf.constant(np.kron(_A, _A), tf.float32), tf.reshape(products, (36, -1)))
    y = tf.reshape(y, (_TILE, _TILE, batch, down, across, transformed.shape[2]))
    y = tf.transpose(y, (2, 3, 0, 4, 1, 5))
    y = tf.reshape(y, (batch, down * _TILE, across * _TILE, transformed.shape[2]))
    return y[:, :height, :width]


def replicate(x: tf.Tensor) -> tf.Tensor:
    """Pad (B, H, W, C) by one pixel on each side with copies of its border.

    The same as tf.pad's SYMMETRIC, whose bfloat16 kernel takes two and a half times as long as
    these copies (measured); its gradient is quick.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def padded(inner: tf.Tensor) -> tuple[tf.Tensor, object]:
        def back(upstream: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.MirrorPadGrad(input=upstream, paddings=ONE_PIXEL, mode="SYMMETRIC")

        rows = tf.concat([inner[:, :1], inner, inner[:, -1:]], 1)
        return tf.concat([rows[:, :, :1], rows, rows[:, :, -1:]], 2), back

    return padded(x)


ONE_PIXEL = [[0, 0], [1, 1], [1, 1], [0, 0]]


class Direct:
    """A fixed 3x3 convolution as the library computes it, in float32 or bfloat16.

    bfloat16 keeps float32's range and a third of its digits; sums are in float32. Processors with
    matrix units for it (AMX) run it six to eight times as fast as float32 (measured).
    """

    def __init__(self, kernel: NDArray[np.float32], precision: str) -> None:
        self._kernel = tf.cast(kernel, precision)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Convolve x (B, H+2, W+2, in), padded by the caller: (B, H, W, out)."""
        return tf.nn.conv2d(tf.cast(x, self._kernel.dtype), self._kernel, 1, "VALID")


class Entry:
    """The first convolution before bfloat16 ones: float32 pixels in, bfloat16 features out.

    One bfloat16 number holds a pixel to half a grey level only, two hold it to 16 bits: the value,
    and what rounding left of it, which takes the same kernel again. The gradient goes through the
    value alone.
    """

    def __init__(self, kernel: NDArray[np.float32]) -> None:
        self._kernel = tf.cast(np.concatenate([kernel, kernel], 2), tf.bfloat16)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Convolve x (B, H+2, W+2, in) float32, padded by the caller: (B, H, W, out) bfloat16."""
        value = tf.cast(x, tf.bfloat16)
        rest = tf.cast(tf.stop_gradient(x - tf.cast(value, tf.float32)), tf.bfloat16)
        return tf.nn.conv2d(tf.concat([value, rest], 3), self._kernel, 1, "VALID")


class Winograd:
    """A fixed 3x3 convolution with its exact input gradient, both by Winograd's algorithm."""

    def __init__(self, kernel: NDArray[np.float32]) -> None:
        self._forward = tf.constant(transform_kernel(kernel))
        self._backward = tf.constant(transform_kernel(gradient_kernel(kernel)))
        self._channels = kernel.shape[2:]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Convolve x (B, H+2, W+2, in), padded by the caller: (B, H, W, out)."""

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def convolve(inner: tf.Tensor) -> tuple[tf.Tensor, object]:
            def back(upstream: tf.Tensor) -> tf.Tensor:
                upstream = tf.ensure_shape(upstream, (None, None, None, self._channels[1]))
                return _valid(tf.pad(upstream, _TWO_PIXELS), self._backward)

            return _valid(inner, self._forward), back

        return convolve(x)


_TWO_PIXELS = [[0, 0], [2, 2], [2, 2], [0, 0]]
