from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine.losses import Moments
from nstd.engine.objective import Objective, Targets, weights_of
from nstd.engine.params import PRESETS, Precision, StyleParams
from nstd.engine.progress import Listener, StyleImage
from nstd.engine.stylizer import Stylizer
from nstd.engine.tiling import TiledObjective, alive
from nstd.engine.vgg import FeatureExtractor, stride_of
from tests.engine.conftest import lively_kernels, picture


def objective(params: StyleParams, precision: Precision = "float32") -> Objective:
    layers = [name for name, _ in (*params.content_layers, *params.layer_weights())]
    extractor = FeatureExtractor(
        lively_kernels(),
        layers,
        pooling=params.pooling,
        edge=params.edge,
        winograd=False,
        precision=precision,
    )
    return Objective(extractor, params)


def as_image(height: int, width: int, seed: int) -> tf.Tensor:
    return tf.constant(picture(height, width, seed)[None] / 255.0, tf.float32)


def targets(whole: Objective, params: StyleParams, size: tuple[int, int], regions: int) -> Targets:
    content = as_image(*size, 1)
    moments = whole.style_moments(as_image(90, 110, 2))
    shares: dict[str, tuple[tf.Tensor, ...]] = {}
    if regions > 1:
        ramp = np.linspace(0.0, 1.0, size[1], dtype=np.float32)[None, None, :, None]
        mask = np.broadcast_to(ramp, (1, *size, 1))
        for layer, _ in params.layer_weights():
            small = (size[0] // stride_of(layer), size[1] // stride_of(layer))
            part = tf.image.resize(mask, small, "area")
            shares[layer] = (part, 1.0 - part)
    style: dict[str, tuple[Moments, ...]] = {
        layer: (found,) * max(regions, 1) for layer, found in moments.items()
    }
    return Targets(whole.content_features(content), style, shares, weights_of(params))


CASES: dict[str, tuple[StyleParams, tuple[int, int], int, int]] = {
    "moments": (StyleParams(), (113, 170), 48, 1),
    "gram": (StyleParams(statistic="gram"), (96, 150), 64, 1),
    "wasserstein": (StyleParams(statistic="wasserstein"), (80, 81), 48, 1),
    "masks": (StyleParams(), (128, 130), 48, 2),
    "deeper, average pooling": (PRESETS["tutorial-avgpool"], (97, 131), 64, 1),
    "pooled layer": (PRESETS["tutorial-blog"], (128, 96), 48, 1),
    "one tile": (StyleParams(), (60, 70), 256, 1),
    "strips of pixels": (StyleParams(tv_weight=5000.0), (530, 48), 192, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_untiled_objective(case: str) -> None:
    params, size, tile, regions = CASES[case]
    whole = objective(params)
    aims = targets(whole, params, size, regions)
    image = as_image(*size, 3) * 1.3 - 0.1  # some of it out of range
    terms, gradient = whole(image, aims)
    got, tiled = TiledObjective(whole, tile)(image, aims)
    for mine, theirs in zip(got, terms, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4)
    scale = float(tf.reduce_max(tf.abs(gradient)))
    np.testing.assert_allclose(tiled, gradient, atol=5e-4 * scale)


def graphed(whole: Objective, image: tf.Tensor, aims: Targets) -> tuple[Any, tf.Tensor]:
    """Return terms and gradient as a graph gives them: fused layers round once, not three times."""
    found: tuple[Any, tf.Tensor] = tf.function(lambda: whole(image, aims), autograph=False)()
    return found


@pytest.mark.parametrize("tile", [36, 48, 60, 96])
@pytest.mark.parametrize("regions", [1, 2])
def test_tiles_in_bfloat16_add_little_to_its_rounding(regions: int, tile: int) -> None:
    params, size = StyleParams(), (113, 170)
    image = as_image(*size, 3)
    exact, whole = objective(params), objective(params, "bfloat16")
    _, wanted = graphed(exact, image, targets(exact, params, size, regions))
    aims = targets(whole, params, size, regions)
    terms, gradient = graphed(whole, image, aims)
    got, tiled = TiledObjective(whole, tile)(image, aims)
    for mine, theirs in zip(got, terms, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2**-10)  # half of what one value rounds by
    # a value that rounds the other way opens or closes a ReLU: the gradient is far less exact
    rounding = float(tf.norm(gradient - wanted) / tf.norm(wanted))
    assert float(tf.norm(tiled - gradient) / tf.norm(gradient)) < rounding / 5
    assert float(tf.norm(tiled - wanted) / tf.norm(wanted)) < 1.02 * rounding


def test_an_empty_region_asks_for_nothing() -> None:
    params = StyleParams()
    whole = objective(params)
    aims = targets(whole, params, (64, 64), 2)
    none = {layer: tuple(map(tf.zeros_like, masks)) for layer, masks in aims.shares.items()}
    terms, gradient = TiledObjective(whole, 48)(as_image(64, 64, 3), aims._replace(shares=none))
    assert float(terms.style[0]) == 0.0
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("size", [(64, 64), (113, 170), (50, 203)])
def test_features_and_moments_are_read_as_in_one_piece(size: tuple[int, int]) -> None:
    params = StyleParams()
    whole = objective(params)
    tiled = TiledObjective(whole, 48)
    image = as_image(*size, 4)
    for layer, features in whole.content_features(image).items():
        np.testing.assert_allclose(tiled.content_features(image)[layer], features, rtol=1e-5)
    for layer, moments in whole.style_moments(image).items():
        got = tiled.style_moments(image)[layer]
        np.testing.assert_allclose(got.mean, moments.mean, rtol=1e-4)
        top = float(tf.reduce_max(moments.gram))
        np.testing.assert_allclose(got.gram, moments.gram, atol=1e-4 * top)


def test_each_tile_is_a_sign_of_life() -> None:
    params = StyleParams()
    whole = objective(params)
    tiled = TiledObjective(whole, 48)
    signs: list[int] = []
    aims = targets(whole, params, (96, 96), 1)
    token = alive.set(lambda: signs.append(1))
    tiled(as_image(96, 96, 5), aims)
    alive.reset(token)
    assert len(signs) > 4


@pytest.mark.parametrize(("precision", "most"), [("float32", 2), ("bfloat16", 8)])
def test_a_short_budget_paints_the_same_picture_in_tiles(
    stylizer: Stylizer, monkeypatch: pytest.MonkeyPatch, precision: Precision, most: int
) -> None:
    params = dataclasses.replace(
        PRESETS["tiny"], iterations=3, history=1, pyramid_min=160, precision=precision
    )
    content, styles = picture(120, 160, 6), [StyleImage(picture(60, 70, 7))]
    whole = stylizer.stylize(content, styles, params, listener=Listener())
    monkeypatch.setattr(stylizer, "_budget", 1.0)
    tiled = stylizer.stylize(content, styles, params, listener=Listener())
    assert [level["tile"] for level in whole.plan["levels"]] == [0]
    assert all(level["tile"] for level in tiled.plan["levels"])
    difference = np.abs(whole.pixels.astype(int) - tiled.pixels.astype(int))
    assert difference.max() <= most
