"""The network is VGG19: layers, padding, pooling and preprocessing as in a float64 forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import vgg, weight_files
from nstd.engine.params import Edge, Pooling
from nstd.errors import WeightsError
from tests.engine import reference
from tests.engine.conftest import Kernels, picture
from tests.engine.test_weights import write_vgg19

pytestmark = pytest.mark.usefixtures("_cpu")

SOME = ["block1_conv1", "block2_conv2", "block3_pool", "block4_conv2", "block5_conv1"]


def images(height: int, width: int, batch: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return (batch, height, width, 3) RGB in [0, 1]."""
    each = [picture(height, width, seed) for seed in range(batch)]
    return np.stack(each).astype(np.float32) / np.float32(255.0)


def agree(got: dict[str, tf.Tensor], wanted: dict[str, reference.Array]) -> None:
    assert got.keys() == wanted.keys()
    for layer, features in wanted.items():
        assert got[layer].shape == features.shape
        assert np.abs(got[layer].numpy() - features).max() <= 2e-4 * np.abs(features).max(), layer


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("edge", ["zero", "first", "replicate"])
def test_features_are_those_of_a_float64_forward(
    lively: Kernels, pooling: Pooling, edge: Edge
) -> None:
    extractor = vgg.FeatureExtractor(lively, SOME, pooling=pooling, edge=edge)
    rgb = images(37, 50)
    wanted = reference.Net(lively, pooling, edge).forward(reference.bgr_of(rgb), SOME)
    agree(extractor(tf.constant(rgb)), wanted)


@pytest.mark.parametrize("edge", ["zero", "replicate"])
def test_winograd_layers_are_the_same_network(builtin_kernels: Kernels, edge: Edge) -> None:
    extractor = vgg.FeatureExtractor(builtin_kernels, SOME, edge=edge, winograd=True)
    rgb = images(33, 48, batch=2)
    wanted = reference.Net(builtin_kernels, "max", edge).forward(reference.bgr_of(rgb), SOME)
    agree(extractor(tf.constant(rgb)), wanted)


@pytest.mark.parametrize("size", [(33, 48), (16, 17)])
def test_bfloat16_features_are_the_same_network_but_for_rounding(
    lively: Kernels, size: tuple[int, int]
) -> None:
    extractor = vgg.FeatureExtractor(lively, SOME, precision="bfloat16")
    rgb = images(*size)
    wanted = reference.Net(lively, "max", "replicate").forward(reference.bgr_of(rgb), SOME)
    for layer, features in extractor(tf.constant(rgb)).items():
        assert features.dtype == tf.bfloat16
        apart = np.linalg.norm(tf.cast(features, tf.float64) - wanted[layer])
        assert apart <= 0.02 * np.linalg.norm(wanted[layer]), layer


@pytest.mark.parametrize(("pooling", "edge"), [("max", "replicate"), ("avg", "zero")])
def test_image_gradients_are_those_of_a_float64_backward(
    lively: Kernels, pooling: Pooling, edge: Edge
) -> None:
    layers = ["block1_conv2", "block3_conv1"]
    extractor = vgg.FeatureExtractor(lively, layers, pooling=pooling, edge=edge)
    at = tf.constant(images(19, 22))
    net = reference.Net(lively, pooling, edge)
    found = net.forward(reference.bgr_of(at.numpy()), layers)
    rng = np.random.default_rng(3)
    pulls = {layer: rng.normal(0.0, 1.0, features.shape) for layer, features in found.items()}
    with tf.GradientTape() as tape:
        tape.watch(at)
        features = extractor(at)
        total = tf.add_n(
            [
                tf.reduce_sum(features[layer] * tf.constant(pulls[layer], tf.float32))
                for layer in layers
            ]
        )
    gradient = tape.gradient(total, at).numpy()
    wanted = net.backward(pulls)[..., ::-1] * 255.0
    assert np.linalg.norm(gradient - wanted) < 1e-3 * np.linalg.norm(wanted)


def test_preprocessing_swaps_to_bgr_and_takes_the_means_off() -> None:
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1] = np.eye(3)  # shows its input as it is
    extractor = vgg.FeatureExtractor(
        {"block1_conv1": (kernel, np.zeros(3, np.float32))}, ["block1_conv1"]
    )
    red, green, blue = 0.9, 0.8, 0.7
    rgb = np.full((1, 4, 4, 3), (red, green, blue), np.float32)
    seen = extractor(tf.constant(rgb))["block1_conv1"][0, 2, 2]
    wanted = (255 * blue - 103.939, 255 * green - 116.779, 255 * red - 123.68)
    np.testing.assert_allclose(seen, wanted, 1e-5)


def test_replicated_borders_look_like_their_surroundings(lively: Kernels) -> None:
    extractor = vgg.FeatureExtractor(lively, ["block2_conv2"], edge="replicate")
    flat = extractor(tf.fill((1, 16, 16, 3), 0.3))["block2_conv2"][0].numpy()
    np.testing.assert_allclose(flat, np.broadcast_to(flat[4, 4], flat.shape), 1e-4, 1e-3)


def test_the_network_ends_at_the_deepest_layer_asked_for(lively: Kernels) -> None:
    shallow = {name: pair for name, pair in lively.items() if name.startswith(("block1", "block2"))}
    features = vgg.FeatureExtractor(shallow, ["block2_conv1"])(tf.zeros((1, 16, 16, 3)))
    assert list(features) == ["block2_conv1"]


def test_layers_may_be_asked_for_twice_and_in_any_order(lively: Kernels) -> None:
    extractor = vgg.FeatureExtractor(lively, ["block2_conv1", "block1_conv1", "block2_conv1"])
    assert extractor.layers == ("block1_conv1", "block2_conv1")


def test_an_unknown_layer_is_refused_by_name(lively: Kernels) -> None:
    with pytest.raises(WeightsError, match=r"no layer 'block6_conv1'.*block5_conv4"):
        vgg.FeatureExtractor(lively, ["block6_conv1"])


def test_the_layers_are_those_of_vgg19() -> None:
    assert list(vgg.LAYERS) == reference.ORDER


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a full-width file of Keras' layout; all but four of its layers are zero."""
    rng = np.random.default_rng(5)

    def fill(file: h5py.File) -> None:
        for name in ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2"):
            group = file[name][name]
            for part, spread in (("kernel:0", 0.1), ("bias:0", 1.0)):
                values = rng.normal(0.0, spread, group[part].shape)
                group[part][...] = values

    return write_vgg19(tmp_path_factory.mktemp("keras") / "notop.h5", change=fill)


def test_kernels_of_a_keras_file_have_vgg19s_widths(keras_file: Path) -> None:
    kernels = vgg.load_kernels(str(keras_file))
    assert {name: kernel.shape[2:] for name, (kernel, _) in kernels.items()} == {
        name: (before, after) for name, before, after in weight_files.layers()
    }


def test_features_are_those_of_keras_own_vgg19(keras_file: Path) -> None:
    layers = ["block1_conv2", "block1_pool", "block2_conv1", "block2_conv2"]
    whole = keras.applications.VGG19(include_top=False, weights=str(keras_file))
    theirs = keras.Model(whole.input, {name: whole.get_layer(name).output for name in layers})
    seen = keras.applications.vgg19.preprocess_input(255.0 * images(30, 41))
    kernels = vgg.load_kernels(str(keras_file))
    ours = vgg.FeatureExtractor(kernels, layers, edge="zero", winograd=True)
    agree(ours(tf.constant(images(30, 41))), {n: y.numpy() for n, y in theirs(seen).items()})


@pytest.mark.weights
def test_pretrained_features_are_those_of_a_float64_forward(slim_weights: Path) -> None:
    layers = ["block1_conv1", "block3_conv1"]
    kernels = vgg.load_kernels(str(slim_weights))
    rgb = images(24, 32)
    wanted = reference.Net(kernels, "max", "replicate").forward(reference.bgr_of(rgb), layers)
    agree(vgg.FeatureExtractor(kernels, layers, winograd=True)(tf.constant(rgb)), wanted)


@pytest.mark.parametrize("name", ["junk.h5", "junk.npz", "absent.h5", "cut.npz"])
def test_files_of_another_kind_are_refused_in_words(
    tmp_path: Path, name: str, builtin: Any
) -> None:
    path = tmp_path / name
    if name.startswith("junk"):
        path.write_bytes(b"no weights")
    elif name.startswith("cut"):
        path.write_bytes(Path(builtin.path).read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"not a whole file|cannot be read|no weights file"):
        vgg.load_kernels(str(path))
