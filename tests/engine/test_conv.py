"""Convolutions, padding and their gradients are the direct ones, in float64, at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from nstd.engine import conv
from tests.engine import reference

pytestmark = pytest.mark.usefixtures("_cpu")

SIZES = [(1, 1, 1), (1, 4, 4), (2, 5, 9), (2, 7, 4), (1, 16, 3), (1, 13, 18)]


def parts(
    size: tuple[int, int, int], before: int, after: int
) -> tuple[reference.Array, NDArray[np.float32]]:
    """Return padded features (B, H+2, W+2, before) and a kernel (3, 3, before, after)."""
    rng = np.random.default_rng(sum(size))
    batch, height, width = size
    x = np.maximum(rng.normal(0.0, 100.0, (batch, height + 2, width + 2, before)), 0.0)
    return x, rng.normal(0.0, 0.05, (3, 3, before, after)).astype(np.float32)


def close(got: tf.Tensor, wanted: reference.Array) -> None:
    """Winograd's float32 is off by some 2e-5 of the largest value, no more."""
    assert got.shape == wanted.shape
    assert np.abs(got.numpy() - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(("before", "after"), [(128, 136), (3, 5)])
@pytest.mark.parametrize("size", SIZES)
def test_winograd_is_the_direct_convolution(
    size: tuple[int, int, int], before: int, after: int
) -> None:
    x, kernel = parts(size, before, after)
    close(conv.Winograd(kernel)(tf.constant(x, tf.float32)), reference.convolve(x, kernel))


@pytest.mark.parametrize(("before", "after"), [(128, 136), (3, 5)])
@pytest.mark.parametrize("size", SIZES)
def test_winograds_gradient_is_the_direct_one(
    size: tuple[int, int, int], before: int, after: int
) -> None:
    x, kernel = parts(size, before, after)
    upstream = np.random.default_rng(7).normal(0.0, 1.0, (*size, after))
    at = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(at)
        y = conv.Winograd(kernel)(at)
    gradient = tape.gradient(y, at, tf.constant(upstream, tf.float32))
    close(gradient, reference.convolve_back(upstream, kernel))


def test_winograd_serves_every_size_with_one_trace() -> None:
    kernel = parts((1, 1, 1), 4, 6)[1]
    layer, traces = conv.Winograd(kernel), []

    def convolve(x: tf.Tensor) -> tf.Tensor:
        traces.append(1)
        return layer(x)

    traced = tf.function(convolve, input_signature=[tf.TensorSpec((None, None, None, 4))])
    for size in SIZES:
        x = parts(size, 4, 6)[0]
        close(traced(tf.constant(x, tf.float32)), reference.convolve(x, kernel))
    assert len(traces) == 1


def test_transformed_kernels_are_computed_in_double_precision() -> None:
    kernel = parts((1, 1, 1), 2, 2)[1]
    ones = np.ones((1, 6, 6, 2))
    got = conv.Winograd(kernel)(tf.constant(ones, tf.float32)).numpy()
    np.testing.assert_allclose(got, reference.convolve(ones, kernel), 1e-5, 1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_replicated_borders_are_those_of_an_edge_padding(size: tuple[int, int, int]) -> None:
    x = np.random.default_rng(5).normal(0.0, 1.0, (*size, 3)).astype(np.float32)
    at = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(at)
        padded = conv.replicate(at)
    np.testing.assert_array_equal(padded, np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "edge"))
    upstream = np.random.default_rng(6).normal(0.0, 1.0, padded.shape)
    wanted = np.zeros(x.shape)
    for row in range(size[1] + 2):
        for column in range(size[2] + 2):
            near = np.clip(row - 1, 0, size[1] - 1), np.clip(column - 1, 0, size[2] - 1)
            wanted[:, near[0], near[1]] += upstream[:, row, column]
    gradient = tape.gradient(padded, at, tf.constant(upstream, tf.float32))
    np.testing.assert_allclose(gradient, wanted, atol=1e-5)


def rounded(values: Any) -> reference.Array:
    """Return float64 values as bfloat16 keeps them."""
    kept: reference.Array = tf.cast(tf.cast(values, tf.bfloat16), tf.float64).numpy()
    return kept


@pytest.mark.parametrize("size", SIZES)
def test_a_bfloat16_convolution_is_that_of_the_rounded_factors(size: tuple[int, int, int]) -> None:
    x, kernel = parts(size, 16, 12)
    wanted = reference.convolve(rounded(x), rounded(kernel))
    got = tf.cast(conv.Direct(kernel, "bfloat16")(tf.constant(x, tf.float32)), tf.float64)
    assert np.abs(got.numpy() - wanted).max() <= 2**-8 * np.abs(wanted).max()


def test_the_entry_to_bfloat16_sees_differences_that_bfloat16_would_swallow() -> None:
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[1, 0], kernel[1, 1] = -1.0, 1.0  # a pixel less its neighbour on the left
    pixels = np.full((1, 6, 6, 3), 130.2)
    pixels[:, :, 3:] = 130.4  # bfloat16 knows 130 and 131
    wanted = reference.convolve(pixels, kernel)
    got = tf.cast(conv.Entry(kernel)(tf.constant(pixels, tf.float32)), tf.float64).numpy()
    assert np.abs(got - wanted).max() <= 0.02 * np.abs(wanted).max()
    assert not reference.convolve(rounded(pixels), kernel).any()


def test_the_gradient_of_the_entry_is_the_direct_one() -> None:
    x, kernel = parts((1, 7, 9), 3, 8)
    upstream = np.random.default_rng(8).normal(0.0, 1.0, (1, 7, 9, 8))
    at = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(at)
        y = conv.Entry(kernel)(at)
    gradient = tape.gradient(y, at, tf.constant(upstream, tf.bfloat16))
    assert gradient.dtype == tf.float32
    wanted = reference.convolve_back(rounded(upstream), rounded(kernel))
    assert np.abs(gradient.numpy() - wanted).max() <= 2**-7 * np.abs(wanted).max()
