"""Loss and gradient of whole objectives are those of numpy in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import losses
from nstd.engine.objective import Objective, Targets, weights_of
from nstd.engine.params import StyleParams
from nstd.engine.vgg import FeatureExtractor
from tests.engine import reference
from tests.engine.conftest import Kernels, picture
from tests.engine.reference import Array

pytestmark = pytest.mark.usefixtures("_cpu")

CONTENT, STYLE = "block2_conv2", ("block1_conv1", "block3_conv1")
RELATIVE = StyleParams(
    content_weight=1.5,
    style_weight=20.0,
    tv_weight=3.0,
    range_weight=30.0,
    content_layers=((CONTENT, 1.0),),
    style_layers=((STYLE[0], 3.0), (STYLE[1], 1.0)),
    statistic="moments",
    normalization="relative",
    pooling="max",
    edge="replicate",
)


def rgb(height: int, width: int, seed: int) -> Array:
    return picture(height, width, seed)[None] / 255.0


def extractor_of(kernels: Kernels, params: StyleParams) -> FeatureExtractor:
    layers = [name for name, _ in (*params.content_layers, *params.layer_weights())]
    return FeatureExtractor(kernels, layers, pooling=params.pooling, edge=params.edge)


def targets_of(
    extractor: FeatureExtractor, params: StyleParams, photograph: Array, painting: Array
) -> Targets:
    wanted = extractor(tf.constant(photograph, tf.float32))
    style = extractor(tf.constant(painting, tf.float32))
    return Targets(
        content={layer: wanted[layer] for layer, _ in params.content_layers},
        style={layer: (losses.moments(style[layer]),) for layer, _ in params.layer_weights()},
        shares={},
        weights=weights_of(params),
    )


def numpy_terms(
    kernels: Kernels, params: StyleParams, image: Array, photograph: Array, painting: Array
) -> tuple[dict[str, float], Array]:
    """Return the weighted terms of an image in range and its gradient in RGB [0, 1]."""
    relative = params.normalization == "relative"
    style_formula = reference.gram_style if params.statistic == "gram" else reference.moments_style
    net = reference.Net(kernels, params.pooling, params.edge)
    wanted = net.forward(reference.bgr_of(photograph), [CONTENT])
    style = net.forward(reference.bgr_of(painting), STYLE)
    features = net.forward(reference.bgr_of(image), [CONTENT, *STYLE])
    value, pull = reference.content(features[CONTENT], wanted[CONTENT], relative=relative)
    terms = {"content": params.content_weight * float(value[0]), "style": 0.0}
    pulls = {CONTENT: params.content_weight * pull}
    for layer, weight in params.layer_weights():
        value, pull = style_formula(features[layer], style[layer], relative=relative)
        terms["style"] += params.style_weight * weight * float(value[0])
        pulls[layer] = params.style_weight * weight * pull
    gradient = net.backward(pulls)[..., ::-1] * 255.0
    across, down = np.diff(image, axis=2), np.diff(image, axis=1)
    terms["tv"] = params.tv_weight * float(np.square(across).mean() + np.square(down).mean())
    gradient[:, :, 1:] += 2.0 * params.tv_weight * across / across.size
    gradient[:, :, :-1] -= 2.0 * params.tv_weight * across / across.size
    gradient[:, 1:] += 2.0 * params.tv_weight * down / down.size
    gradient[:, :-1] -= 2.0 * params.tv_weight * down / down.size
    return terms, gradient


VARIANTS: dict[str, dict[str, Any]] = {
    "relative moments": {},
    "relative gram": {"statistic": "gram", "pooling": "avg", "edge": "zero"},
    "gatys gram": {"normalization": "gatys", "statistic": "gram", "edge": "zero"},
    "gatys moments": {"normalization": "gatys", "edge": "first"},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_terms_and_gradient_are_the_formulas(lively: Kernels, changes: dict[str, Any]) -> None:
    params = StyleParams(**{**RELATIVE.to_dict(), **changes})
    photograph, painting, image = rgb(21, 26, 1), rgb(24, 20, 2), rgb(21, 26, 3)
    # pixels at 0 and 1 are on the edge of the clip, where a gradient is a matter of taste
    image = image.clip(0.01, 0.99)
    extractor = extractor_of(lively, params)
    targets = targets_of(extractor, params, photograph, painting)
    terms, gradient = Objective(extractor, params)(tf.constant(image, tf.float32), targets)
    wanted, slope = numpy_terms(lively, params, image, photograph, painting)
    got = {name: float(getattr(terms, name)[0]) for name in wanted}
    assert got == pytest.approx(wanted, rel=2e-3)
    assert float(terms.total[0]) == pytest.approx(sum(wanted.values()), rel=2e-3)
    assert np.linalg.norm(gradient.numpy() - slope) < 5e-3 * np.linalg.norm(slope)


def test_what_is_out_of_range_is_clipped_and_pulled_back(lively: Kernels) -> None:
    extractor = extractor_of(lively, RELATIVE)
    targets = targets_of(extractor, RELATIVE, rgb(16, 16, 1), rgb(16, 16, 2))
    objective = Objective(extractor, RELATIVE)
    image = tf.constant(rgb(16, 16, 3) * 1.6 - 0.3, tf.float32)
    terms, gradient = objective(image, targets)
    clipped, _ = objective(tf.clip_by_value(image, 0.0, 1.0), targets)
    for name in ("content", "style", "tv"):
        np.testing.assert_allclose(getattr(terms, name), getattr(clipped, name), 1e-4)
    beyond = 30.0 * losses.range_loss(image)
    np.testing.assert_allclose(terms.total - clipped.total, beyond, 1e-2)
    outside = (image.numpy() < 0.0) | (image.numpy() > 1.0)
    distance = image.numpy() - image.numpy().clip(0.0, 1.0)
    pull = 2.0 * 30.0 * distance / distance.size
    np.testing.assert_allclose(gradient.numpy()[outside], pull[outside], 1e-3, 1e-7)


def test_images_of_a_batch_have_the_loss_and_gradient_of_single_runs(lively: Kernels) -> None:
    extractor = extractor_of(lively, RELATIVE)
    objective = Objective(extractor, RELATIVE)
    asked = RELATIVE, replace(RELATIVE, style_weight=5.0, content_weight=2.0, tv_weight=9.0)
    single = [
        targets_of(extractor, params, rgb(18, 20, seed), rgb(20, 18, seed + 10))
        for seed, params in enumerate(asked)
    ]
    both = tf.nest.map_structure(lambda a, b: tf.concat([a, b], 0), *single)
    images = tf.constant(np.concatenate([rgb(18, 20, 5), rgb(18, 20, 6)]), tf.float32)
    terms, gradient = objective(images, both)
    for i, targets in enumerate(single):
        alone, slope = objective(images[i : i + 1], targets)
        for got, wanted in zip(terms, alone, strict=True):
            np.testing.assert_allclose(got[i], wanted[0], 1e-4)
        assert np.linalg.norm(gradient[i] - slope[0]) < 1e-3 * np.linalg.norm(slope[0])


def test_a_mask_asks_for_the_style_inside_and_leaves_the_rest_alone(lively: Kernels) -> None:
    params = StyleParams(
        **{**RELATIVE.to_dict(), "style_layers": ((STYLE[0], 1.0),), "content_weight": 0.0}
    )
    params = StyleParams(**{**params.to_dict(), "tv_weight": 0.0})
    extractor = extractor_of(lively, params)
    targets = targets_of(extractor, params, rgb(16, 20, 1), rgb(20, 16, 2))
    share = np.zeros((1, 16, 20, 1), np.float32)
    share[:, :, :10] = 1.0
    masked = targets._replace(shares={STYLE[0]: (tf.constant(share),)})
    image = rgb(16, 20, 3).clip(0.01, 0.99)
    terms, gradient = Objective(extractor, params)(tf.constant(image, tf.float32), masked)
    net = reference.Net(lively, "max", "replicate")
    features = net.forward(reference.bgr_of(image), [STYLE[0]])[STYLE[0]][:, :, :10]
    wanted = net.forward(reference.bgr_of(rgb(20, 16, 2)), [STYLE[0]])[STYLE[0]]
    value, _ = reference.moments_style(features, wanted, relative=True)
    half = 0.5  # a region counts by its share of the picture
    np.testing.assert_allclose(terms.style, 20.0 * half * value, 2e-3)
    assert not gradient.numpy()[:, :, 12:].any()
    assert gradient.numpy()[:, :, :9].any()
