"""VGG19 as a feature extractor: the only place that knows its preprocessing and its wiring.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), configuration E, as ``keras.applications.VGG19`` builds it: 3x3 convolutions with zero
padding, each followed by ReLU, five blocks with 2x2 pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from nstd.engine import weight_files
from nstd.engine.conv import Winograd
from nstd.errors import WeightsError

if TYPE_CHECKING:
    from nstd.engine.params import Edge, Pooling

BGR_MEANS = (103.939, 116.779, 123.68)
"""ImageNet means of the Caffe models that Keras's VGG19 weights come from."""

_CONVOLUTIONS = (2, 2, 4, 4, 4)
LAYERS = tuple(
    name
    for block, count in enumerate(_CONVOLUTIONS, start=1)
    for name in (
        *(f"block{block}_conv{i}" for i in range(1, count + 1)),
        f"block{block}_pool",
    )
)
"""Every layer that an objective may name, shallow to deep."""

_WINOGRAD_CHANNELS = 128
"""Fewer input channels leave too little matrix product to pay for the transforms (measured)."""

Kernels = dict[str, tuple[Any, Any]]
"""Layer name -> (kernel (3, 3, in, out), bias (out,)), float32 arrays."""


def load_kernels(path: str) -> Kernels:
    """Read the convolutions of a Keras 'notop' HDF5 file, or of the package's own npz.

    Raises WeightsError when the file cannot be read or has another layout.
    """
    return dict(weight_files.read(path))


@keras.saving.register_keras_serializable("nstd")
class _Convolution(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """A fixed 3x3 convolution with ReLU; direct, or by Winograd where that wins."""

    def __init__(self, kernel: Any, bias: Any, *, replicate: bool, fast: bool, name: str) -> None:
        super().__init__(name=name, trainable=False)
        self._kernel, self._bias, self._replicate = kernel, bias, replicate
        self._winograd = Winograd(kernel) if fast else None

    def call(self, x: tf.Tensor) -> tf.Tensor:
        # SYMMETRIC equals replicate for one pixel
        x = tf.pad(x, _ONE_PIXEL, "SYMMETRIC" if self._replicate else "CONSTANT")
        if self._winograd is None:
            y = tf.nn.conv2d(x, self._kernel, 1, "VALID")
        else:
            y = self._winograd(x)
        return tf.nn.relu(y + self._bias)


_ONE_PIXEL = [[0, 0], [1, 1], [1, 1], [0, 0]]


class FeatureExtractor:
    """(B, H, W, 3) RGB in [0, 1] -> {layer: (B, h, w, C)}, truncated after the deepest layer."""

    def __init__(
        self,
        kernels: Kernels,
        layers: Sequence[str],
        *,
        pooling: Pooling = "max",
        edge: Edge = "replicate",
        winograd: bool = False,
    ) -> None:
        unknown = sorted(set(layers) - set(LAYERS))
        if unknown:
            raise WeightsError(
                f"VGG19 has no layer {unknown[0]!r}.", f"Take one of: {', '.join(LAYERS)}."
            )
        self.layers = tuple(sorted(set(layers), key=LAYERS.index))
        deepest = LAYERS.index(self.layers[-1])
        pool = keras.layers.MaxPooling2D if pooling == "max" else keras.layers.AveragePooling2D
        inputs = keras.Input((None, None, 3))
        x, outputs = inputs, {}
        for name in LAYERS[: deepest + 1]:
            if name.endswith("pool"):
                x = pool(2, name=name)(x)
            else:
                kernel, bias = kernels[name]
                x = _Convolution(
                    kernel,
                    bias,
                    replicate=edge == "replicate" or (edge == "first" and name == "block1_conv1"),
                    fast=winograd and kernel.shape[2] >= _WINOGRAD_CHANNELS,
                    name=name,
                )(x)
            if name in self.layers:
                outputs[name] = x
        self._model = keras.Model(inputs, outputs)

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the post-ReLU activations of the layers asked for."""
        bgr = images[..., ::-1] * 255.0 - tf.constant(BGR_MEANS)
        features: dict[str, tf.Tensor] = self._model(bgr)
        return features
