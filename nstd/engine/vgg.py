"""VGG19 as a feature extractor: the only place that knows its preprocessing and its wiring.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), configuration E, as ``keras.applications.VGG19`` builds it: 3x3 convolutions with zero
padding, each followed by ReLU, five blocks with 2x2 pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from nstd.engine import weight_files
from nstd.engine.conv import ONE_PIXEL, Direct, Entry, Winograd, replicate
from nstd.errors import WeightsError

if TYPE_CHECKING:
    from nstd.engine.params import Edge, Pooling, Precision

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


def stride_of(layer: str) -> int:
    """Return the picture pixels per position of ``layer``."""
    block = int(layer[5])
    return int(2 ** (block if layer.endswith("pool") else block - 1))


_ENTRY = "block1_conv1"
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
    """A fixed 3x3 convolution with ReLU, by the algorithm given."""

    def __init__(
        self, convolve: Callable[[Any], Any], bias: Any, *, replicate: bool, name: str
    ) -> None:
        super().__init__(name=name, trainable=False, autocast=False)
        self._convolve, self._bias, self._replicate = convolve, bias, replicate

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = self._convolve(replicate(x) if self._replicate else tf.pad(x, ONE_PIXEL))
        return tf.nn.relu(tf.nn.bias_add(y, tf.cast(self._bias, y.dtype)))


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
        precision: Precision = "float32",
    ) -> None:
        unknown = sorted(set(layers) - set(LAYERS))
        if unknown:
            raise WeightsError(
                f"VGG19 has no layer {unknown[0]!r}.", f"Take one of: {', '.join(LAYERS)}."
            )
        self.layers = tuple(sorted(set(layers), key=LAYERS.index))
        self.network = Network(
            kernels, pooling=pooling, edge=edge, winograd=winograd, precision=precision
        )
        deepest = LAYERS.index(self.layers[-1])
        self._model = self.network.section(LAYERS[: deepest + 1], self.layers)

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the post-ReLU activations of the layers asked for, in the network's precision."""
        features: dict[str, tf.Tensor] = self._model(preprocess(images))
        return features


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """Return RGB in [0, 1] as the weights expect it: BGR in 0..255 less the ImageNet means."""
    # reverse, not a slice: a slice's gradient takes fifty times as long on a CPU
    return tf.reverse(images, [-1]) * 255.0 - tf.constant(BGR_MEANS)


class Network:
    """The wiring of VGG19, whole or in sections."""

    def __init__(
        self,
        kernels: Kernels,
        *,
        pooling: Pooling,
        edge: Edge,
        winograd: bool,
        precision: Precision = "float32",
    ) -> None:
        self._kernels, self._edge = kernels, edge
        self._winograd, self._precision = winograd, precision
        self._pool = (
            keras.layers.MaxPooling2D if pooling == "max" else keras.layers.AveragePooling2D
        )
        self._layers: dict[str, Any] = {}

    def section(self, names: Sequence[str], outputs: Sequence[str]) -> keras.Model:
        """Return the model of consecutive layers ``names`` that gives ``outputs`` by name."""
        first = next(name for name in names if name in self._kernels)
        dtype = "float32" if first == _ENTRY else self._precision
        inputs = keras.Input((None, None, self._kernels[first][0].shape[2]), dtype=dtype)
        x, found = inputs, {}
        for name in names:
            x = self._layer(name)(x)
            if name in outputs:
                found[name] = x
        return keras.Model(inputs, found)

    def channels(self, name: str) -> int:
        """Return the number of output channels of a convolution."""
        return int(self._kernels[name][0].shape[3])

    def _layer(self, name: str) -> Any:
        if name not in self._layers:
            self._layers[name] = self._make(name)
        return self._layers[name]

    def _make(self, name: str) -> Any:
        if name.endswith("pool"):
            return self._pool(2, name=name, autocast=False)
        kernel, bias = self._kernels[name]
        return _Convolution(
            self._algorithm(name, kernel),
            bias,
            replicate=self._edge == "replicate" or (self._edge, name) == ("first", _ENTRY),
            name=name,
        )

    def _algorithm(self, name: str, kernel: Any) -> Callable[[Any], Any]:
        if self._precision == "bfloat16":
            return Entry(kernel) if name == _ENTRY else Direct(kernel, self._precision)
        if self._winograd and kernel.shape[2] >= _WINOGRAD_CHANNELS:
            return Winograd(kernel)
        return Direct(kernel, self._precision)
