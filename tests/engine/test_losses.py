"""Losses are their papers' formulas: numpy in float64 and finite differences agree."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import losses
from nstd.engine.params import Normalization, Statistic
from tests.engine import reference
from tests.engine.reference import Array

pytestmark = pytest.mark.usefixtures("_cpu")

STATISTICS: tuple[Statistic, ...] = ("gram", "moments", "wasserstein")
NORMALIZATIONS: tuple[Normalization, ...] = ("relative", "gatys")


def maps(seed: int, *shape: int) -> Array:
    """Return features as a ReLU leaves them, of VGG's magnitude."""
    return np.maximum(np.random.default_rng(seed).normal(10.0, 30.0, shape), 0.0)


def style_reference(statistic: Statistic, got: Array, style: Array, *, relative: bool) -> Array:
    if statistic == "gram":
        return reference.gram_style(got, style, relative=relative)[0]
    if statistic == "moments":
        return reference.moments_style(got, style, relative=relative)[0]
    return reference.wasserstein_style(got, style, relative=relative)


def as_tensor(array: Array) -> tf.Tensor:
    return tf.constant(array, tf.float32)


def style_of(
    features: tf.Tensor, style: Array, statistic: Statistic, normalization: Normalization
) -> tf.Tensor:
    target = losses.moments(as_tensor(style))
    return losses.style_loss(losses.moments(features), target, statistic, normalization)


def test_gram_is_divided_by_the_number_of_positions() -> None:
    features = maps(1, 2, 5, 7, 4)
    np.testing.assert_allclose(losses.gram(as_tensor(features)), reference.gram(features), 1e-5)


def test_covariance_is_that_of_the_positions() -> None:
    features = maps(2, 2, 5, 7, 4)
    got = losses.moments(as_tensor(features)).covariance
    flat = features.reshape(2, 35, 4)
    wanted = [np.cov(each, rowvar=False, bias=True) for each in flat]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "off"), [(tf.float32, 1e-5), (tf.bfloat16, 1e-2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_of_the_sums_are_those_of_their_formulas(
    batch: int, dtype: tf.DType, off: float, *, masked: bool
) -> None:
    features = tf.cast(as_tensor(maps(4, batch, 5, 6, 4)), dtype)
    share = as_tensor(np.random.default_rng(1).random((batch, 5, 6, 1))) if masked else None
    rng = np.random.default_rng(2)
    pull = rng.normal(0.0, 1.0, (batch, 4)), rng.normal(0.0, 0.01, (batch, 4, 4))
    with tf.GradientTape() as tape:
        tape.watch(features)
        sums = losses.moment_sums(features, share)
        drawn = tf.reduce_sum(sums.mean * pull[0]) + tf.reduce_sum(sums.gram * pull[1])
    got = tf.cast(tape.gradient(drawn, features), tf.float64).numpy()
    f = tf.cast(features, tf.float64).numpy()
    both = pull[1] + pull[1].transpose(0, 2, 1)
    wanted = np.einsum("bhwc,bcd->bhwd", f, both) + pull[0][:, None, None]
    wanted = wanted * (share.numpy() if share is not None else 1.0)
    assert np.abs(got - wanted).max() <= off * np.abs(wanted).max()


@pytest.mark.parametrize("size", [(2, 5, 7), (1, 1, 9), (1, 2, 2)])
def test_the_gradient_of_total_variation_is_that_of_its_formula(size: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).random((*size, 3))
    at = as_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = tf.reduce_sum(losses.tv_loss(at) * [2.0, 3.0][: size[0]])
    wanted = np.zeros(x.shape)
    for axis in (1, 2):
        step = np.diff(x, axis=axis)
        if not step.size:
            continue
        slope = 2.0 * step / step[0].size
        after = [(0, 0)] * 4
        before = [(0, 0)] * 4
        before[axis], after[axis] = (1, 0), (0, 1)
        wanted += np.pad(slope, before) - np.pad(slope, after)
    wanted *= np.array([2.0, 3.0][: size[0]])[:, None, None, None]
    np.testing.assert_allclose(tape.gradient(loss, at), wanted, atol=1e-6)


def test_sums_over_tiles_make_the_moments_of_the_whole() -> None:
    features = as_tensor(maps(3, 1, 6, 8, 5))
    parts = [losses.moment_sums(part) for part in (features[:, :2], features[:, 2:])]
    whole = losses.moments(features)
    np.testing.assert_allclose((parts[0].mean + parts[1].mean) / 48.0, whole.mean, 1e-5)
    np.testing.assert_allclose((parts[0].gram + parts[1].gram) / 48.0, whole.gram, 1e-5)


def test_moments_of_a_share_are_those_of_its_region() -> None:
    features = as_tensor(maps(4, 1, 6, 8, 5))
    share = np.zeros((1, 6, 8, 1))
    share[:, :, 3:] = 1.0
    got, wanted = losses.moments(features, as_tensor(share)), losses.moments(features[:, :, 3:])
    np.testing.assert_allclose(got.mean, wanted.mean, 1e-5)
    np.testing.assert_allclose(got.gram, wanted.gram, 1e-5)


def test_an_empty_share_gives_finite_moments() -> None:
    features = as_tensor(maps(5, 1, 4, 4, 3))
    got = losses.moments(features, tf.zeros((1, 4, 4, 1)))
    assert np.all(np.isfinite(got.gram))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_content_loss_and_gradient_are_the_formulas(normalization: Normalization) -> None:
    features, target = maps(6, 2, 4, 5, 3), maps(7, 2, 4, 5, 3)
    wanted = reference.content(features, target, relative=normalization == "relative")
    at = as_tensor(features)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = losses.content_loss(at, as_tensor(target), normalization)
    np.testing.assert_allclose(loss, wanted[0], 1e-5)
    np.testing.assert_allclose(tape.gradient(loss, at), wanted[1], 1e-4, 1e-9)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_style_loss_and_gradient_are_the_formulas(
    statistic: Statistic, normalization: Normalization
) -> None:
    features, style = maps(8, 2, 4, 5, 3), maps(9, 2, 6, 4, 3)
    relative = normalization == "relative"
    wanted = style_reference(statistic, features, style, relative=relative)
    slope = reference.finite_differences(
        lambda there: style_reference(statistic, there, style, relative=relative), features, 1e-3
    )
    at = as_tensor(features)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = style_of(at, style, statistic, normalization)
    np.testing.assert_allclose(loss, wanted, 2e-3)
    gradient = tape.gradient(loss, at).numpy()
    assert np.linalg.norm(gradient - slope) < 5e-3 * np.linalg.norm(slope)


@pytest.mark.parametrize("statistic", ["gram", "moments"])
def test_the_gradients_written_out_are_those_of_finite_differences(statistic: str) -> None:
    features, style = maps(10, 1, 4, 3, 3), maps(11, 1, 3, 5, 3)
    formula = reference.gram_style if statistic == "gram" else reference.moments_style
    slope = reference.finite_differences(
        lambda there: formula(there, style, relative=True)[0], features, 1e-4
    )
    np.testing.assert_allclose(formula(features, style, relative=True)[1], slope, 1e-5, 1e-10)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_relative_losses_do_not_see_the_scale_of_activations(statistic: Statistic) -> None:
    features, style = maps(12, 1, 5, 5, 4), maps(13, 1, 5, 5, 4)
    once = style_of(as_tensor(features), style, statistic, "relative")
    again = style_of(as_tensor(100.0 * features), 100.0 * style, statistic, "relative")
    np.testing.assert_allclose(once, again, 1e-3)
    target = as_tensor(style)
    once = losses.content_loss(as_tensor(features), target, "relative")
    again = losses.content_loss(as_tensor(100.0 * features), 100.0 * target, "relative")
    np.testing.assert_allclose(once, again, 1e-4)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_equal_statistics_cost_nothing(statistic: Statistic) -> None:
    style = maps(14, 1, 5, 5, 4)
    turned = as_tensor(style[:, ::-1, ::-1])  # the same positions in another order
    assert abs(float(style_of(turned, style, statistic, "relative")[0])) < 1e-4


def test_wasserstein_gradients_are_finite_where_channels_never_fire() -> None:
    features, style = maps(15, 1, 5, 5, 4), maps(16, 1, 5, 5, 4)
    features[..., 1] = style[..., 1] = style[..., 2] = 0.0
    at = as_tensor(features)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = style_of(at, style, "wasserstein", "relative")
    assert np.all(np.isfinite(tape.gradient(loss, at)))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_pictures_of_a_batch_do_not_mix(statistic: Statistic) -> None:
    features, style = maps(17, 2, 5, 5, 4), maps(18, 2, 5, 5, 4)
    both = style_of(as_tensor(features), style, statistic, "relative")
    for i in (0, 1):
        alone = style_of(as_tensor(features[i : i + 1]), style[i : i + 1], statistic, "relative")
        np.testing.assert_allclose(both[i], alone[0], 1e-4)


def test_total_variation_is_the_mean_squared_difference_of_neighbours() -> None:
    images = np.random.default_rng(19).random((2, 4, 5, 3))

    def formula(there: Array) -> Array:
        across = np.square(np.diff(there, axis=2)).mean((1, 2, 3))
        down = np.square(np.diff(there, axis=1)).mean((1, 2, 3))
        return np.asarray(across + down)

    at = as_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = losses.tv_loss(at)
    np.testing.assert_allclose(loss, formula(images), 1e-5)
    slope = reference.finite_differences(formula, images, 1e-4)
    np.testing.assert_allclose(tape.gradient(loss, at), slope, 1e-3, 1e-6)


def test_range_loss_pulls_what_is_out_of_range_back() -> None:
    images = np.random.default_rng(20).uniform(-0.5, 1.5, (2, 4, 5, 3))

    def formula(there: Array) -> Array:
        outside = np.maximum(0.0, -there) + np.maximum(0.0, there - 1.0)
        return np.asarray(np.square(outside).mean((1, 2, 3)))

    at = as_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = losses.range_loss(at)
    np.testing.assert_allclose(loss, formula(images), 1e-5)
    gradient = tape.gradient(loss, at).numpy()
    np.testing.assert_allclose(
        gradient, reference.finite_differences(formula, images, 1e-5), 1e-3, 1e-6
    )
    inside = (images > 0.0) & (images < 1.0)
    assert not gradient[inside].any()
