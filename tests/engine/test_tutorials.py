"""The tutorial presets do what their sources do: same losses, gradients, steps and start.

The sources work on mean-subtracted BGR in 0..255; ``reference.Tutorial`` is their text in numpy
and float64. The engine works on RGB in [0, 1], so its learning rate is 5/255 and its epsilon
25.5, which are the sources' 5 and 0.1.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nstd.engine import losses, targets
from nstd.engine.objective import Objective, Targets, weights_of
from nstd.engine.params import PRESETS, StyleParams, preset
from nstd.engine.progress import Checkpoint, Listener, Result, StyleImage
from nstd.engine.stylizer import Stylizer
from nstd.engine.vgg import FeatureExtractor
from nstd.engine.weights import Weights
from nstd.jobs.spec import OutputSpec
from nstd.workers import painting
from tests.engine import reference
from tests.engine.conftest import Kernels, Pixels, picture
from tests.engine.reference import Array

pytestmark = pytest.mark.usefixtures("_cpu")

NAMES = [name for name in PRESETS if name.startswith("tutorial")]
STEPS = 6
LAYERS = {
    "tutorial-keras": ("block5_conv2", reference.STYLE_LAYERS),
    "tutorial-blog": ("block5_pool", ["block5_pool"]),
    "tutorial-avgpool": ("block5_conv2", reference.STYLE_LAYERS),
}
tutorials = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def lively_stylizer(lively_weights: Weights, _cpu: None) -> Stylizer:
    return Stylizer(lively_weights)


def small(name: str) -> StyleParams:
    """Return the preset with few steps; the blog's pictures squeezed to fewer pixels."""
    params = dataclasses.replace(preset(name), iterations=STEPS)
    return dataclasses.replace(params, squeeze=(64, 64)) if params.squeeze else params


def pair(name: str) -> tuple[Pixels, Pixels]:
    """Return photograph and painting at the sizes that the preset works with."""
    if preset(name).squeeze:
        return picture(64, 64, 1), picture(64, 64, 2)
    return picture(40, 48, 1), picture(48, 36, 2)


def bgr(pixels: Pixels) -> Array:
    return reference.bgr_of(pixels[None] / 255.0)


def source(name: str, kernels: Kernels) -> reference.Tutorial:
    photograph, painted = pair(name)
    pooling = "avg" if name == "tutorial-avgpool" else "max"
    net = reference.Net(kernels, pooling, "zero")
    return reference.Tutorial(net, *LAYERS[name], bgr(photograph), bgr(painted))


def paint(stylizer: Stylizer, name: str) -> tuple[Result, list[Checkpoint]]:
    """Run the preset for a few steps, with a checkpoint after the first."""
    photograph, painted = pair(name)
    seen: list[Checkpoint] = []
    result = stylizer.stylize(
        photograph,
        [StyleImage(painted)],
        small(name),
        listener=Listener(checkpoint=seen.append, checkpoint_s=0.0),
    )
    return result, seen


def test_the_three_tutorials_are_there() -> None:
    assert set(NAMES) == set(LAYERS)


@tutorials
def test_settings_are_the_sources(name: str) -> None:
    params = preset(name)
    assert (params.content_weight, params.style_weight, params.tv_weight) == (1e3, 1e-2, 0.0)
    assert (params.optimizer, params.beta1, params.beta2) == ("adam", 0.99, 0.999)
    assert params.learning_rate * 255.0 == pytest.approx(5.0)
    assert params.epsilon / 255.0 == pytest.approx(0.1)
    assert (params.iterations, params.keep, params.edge) == (1000, "best", "zero")
    assert (params.statistic, params.normalization) == ("gram", "gatys")
    assert params.pooling == ("avg" if name == "tutorial-avgpool" else "max")
    assert params.init == ("noise" if name == "tutorial-avgpool" else "content")
    assert params.size == (224 if name == "tutorial-blog" else 512)
    assert params.squeeze == ((224, 224) if name == "tutorial-blog" else None)
    content, style = LAYERS[name]
    assert params.content_layers == ((content, 1.0),)
    shares = dict(params.layer_weights())
    assert list(shares) == style
    assert list(shares.values()) == pytest.approx([1.0 / len(style)] * len(style))


@tutorials
def test_loss_and_gradient_are_the_sources_formulas(name: str, lively: Kernels) -> None:
    params, (photograph, painted) = preset(name), pair(name)
    layers = {layer for layer, _ in (*params.content_layers, *params.layer_weights())}
    extractor = FeatureExtractor(lively, sorted(layers), pooling=params.pooling, edge=params.edge)
    wanted = extractor(tf.constant(photograph[None] / np.float32(255)))
    style = extractor(tf.constant(painted[None] / np.float32(255)))
    aim = Targets(
        content={layer: wanted[layer] for layer, _ in params.content_layers},
        style={layer: (losses.moments(style[layer]),) for layer, _ in params.layer_weights()},
        shares={},
        weights=weights_of(params),
    )
    height, width = photograph.shape[:2]
    image = picture(height, width, 3)
    at = tf.constant(image[None] / np.float32(255))
    terms, gradient = Objective(extractor, params)(at, aim)
    total, content_term, style_term, slope = source(name, lively).loss(bgr(image))
    got = [float(term[0]) for term in (terms.total, terms.content, terms.style)]
    assert got == pytest.approx([total, content_term, style_term], rel=1e-3)
    ours = gradient.numpy()[..., ::-1] / 255.0  # of BGR in 0..255
    assert np.linalg.norm(ours - slope) < 2e-3 * np.linalg.norm(slope)


@tutorials
def test_the_first_steps_and_the_best_image_are_the_sources(
    name: str, lively: Kernels, lively_stylizer: Stylizer
) -> None:
    result, checkpoints = paint(lively_stylizer, name)
    tutorial = source(name, lively)
    # after one evaluation the best image so far is the one that the run began with
    begin = reference.bgr_of(checkpoints[0].arrays["common.best"])
    if name != "tutorial-avgpool":
        np.testing.assert_allclose(begin, tutorial.photograph, atol=1e-3)
    last, best, wanted = tutorial.run(begin, STEPS)
    assert [each.total for _, each in result.history] == pytest.approx(wanted, rel=5e-3)
    pixels = result.pixels.astype(np.float64)
    painted = reference.rgb_of(best[0]) * 255.0
    assert np.abs(pixels - painted).max() <= 1.5
    assert np.abs(pixels - painted).mean() <= 0.3  # rounding alone makes 0.25
    assert np.abs(pixels - reference.rgb_of(last[0]) * 255.0).max() > 1.5
    assert result.losses.total == pytest.approx(min(wanted), rel=5e-3)


@tutorials
def test_every_image_is_in_the_valid_range(name: str, lively_stylizer: Stylizer) -> None:
    _, checkpoints = paint(lively_stylizer, name)
    for checkpoint in checkpoints:
        image = checkpoint.arrays["common.image"]
        assert image.min() >= 0.0
        assert image.max() <= 1.0
    assert np.any(checkpoints[-1].arrays["common.image"] == 0.0)  # the clip had work to do


def test_avgpool_starts_from_random_values_of_its_seed(lively_stylizer: Stylizer) -> None:
    def begin(seed: int) -> Any:
        photograph, painted = pair("tutorial-avgpool")
        params = dataclasses.replace(small("tutorial-avgpool"), seed=seed, iterations=1)
        seen: list[Checkpoint] = []
        lively_stylizer.stylize(
            photograph, [StyleImage(painted)], params, listener=Listener(checkpoint=seen.append)
        )
        return seen[0].arrays["common.best"]

    first = begin(1)
    assert 0.0 <= first.min() < 0.01
    assert 0.99 < first.max() <= 1.0
    assert abs(first.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(first, begin(1))
    assert not np.array_equal(first, begin(2))


def test_the_blogs_pictures_are_squeezed_from_file_to_file(
    tmp_path: Path, lively_stylizer: Stylizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture(45, 90, 1)).save(tmp_path / "beach.png")
    Image.fromarray(picture(80, 30, 2)).save(tmp_path / "waves.png")
    sizes: list[tuple[int, int]] = []
    scale = targets.resize

    def noted(pixels: Pixels, height: int, width: int) -> tf.Tensor:
        sizes.append((height, width))
        return scale(pixels, height, width)

    monkeypatch.setattr(targets, "resize", noted)
    request = painting.PaintRequest(
        content=painting.Source(str(tmp_path / "beach.png"), "content"),
        styles=(painting.Source(str(tmp_path / "waves.png"), "style"),),
        params=dataclasses.replace(preset("tutorial-blog"), iterations=1),
        output=OutputSpec(format="png", quality=95, name=None),
    )
    done = painting.paint(request, lively_stylizer, listener=Listener())
    with Image.open(io.BytesIO(done.data)) as image:
        assert image.size == (224, 224)
    assert done.result.plan["levels"][0]["height"] == 224
    assert done.result.plan["levels"][0]["width"] == 224
    assert sizes == [(224, 224)]  # the painting's
