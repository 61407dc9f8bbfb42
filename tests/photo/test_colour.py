from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.photo.colour import match_colours, with_luminance_of
from tests.photo.make import Array, noise, scene

LUMA = np.array([0.299, 0.587, 0.114])


def luma(pixels: Array) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = pixels.astype(np.float64) @ LUMA
    return result


def soft(seed: int, low: int = 60, high: int = 200) -> Array:
    """Random colours away from the ends of the range, where nothing is clipped."""
    return np.random.default_rng(seed).integers(low, high, (40, 50, 3), dtype=np.uint8)


def test_the_light_is_the_paintings() -> None:
    result = with_luminance_of(scene(), noise(48, 64))
    assert np.abs(luma(result) - luma(noise(48, 64))).max() <= 1.0


def test_the_colours_are_the_photographs() -> None:
    """In the middle of the range nothing has to lose saturation: R-Y and B-Y stay."""
    content, painted = soft(1, 110, 140), soft(2, 100, 150)
    result = with_luminance_of(content, painted)
    for channel in (0, 2):
        wanted = content[..., channel] - luma(content)
        assert np.abs(result[..., channel] - luma(result) - wanted).max() <= 1.5


def test_a_picture_painted_like_itself_does_not_change() -> None:
    assert np.abs(with_luminance_of(scene(), scene()).astype(int) - scene()).max() <= 1


def test_a_grey_photograph_gives_a_grey_painting() -> None:
    grey = np.repeat(scene()[..., :1], 3, axis=-1)
    result = with_luminance_of(grey, noise(48, 64))
    assert np.ptp(result, axis=-1).max() <= 1


def test_a_photograph_of_another_size_is_resized() -> None:
    assert with_luminance_of(scene(100, 133), noise(48, 64)).shape == (48, 64, 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_light_survives_even_where_colours_are_extreme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = rng.choice(np.array([0, 1, 254, 255], np.uint8), (9, 11, 3))
    painted = rng.choice(np.array([0, 1, 128, 254, 255], np.uint8), (9, 11, 3))
    assert np.abs(luma(with_luminance_of(content, painted)) - luma(painted)).max() <= 1.0


def moments(pixels: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    colours = pixels.reshape(-1, 3).astype(np.float64) / 255.0
    return colours.mean(axis=0), np.cov(colours.T, bias=True)


def test_matched_colours_have_the_mean_and_covariance_asked_for() -> None:
    style = soft(3)
    content = np.clip(
        soft(4, 90, 160).astype(int) @ np.array([[3, 1, 0], [1, 2, 1], [0, 1, 3]]) // 4, 0, 255
    )
    target = content.astype(np.uint8)
    mean, covariance = moments(match_colours(style, target))
    wanted_mean, wanted_covariance = moments(target)
    assert np.abs(mean - wanted_mean).max() < 0.01
    assert np.abs(covariance - wanted_covariance).max() < 0.15 * wanted_covariance.max()


def test_the_map_is_the_papers_symmetric_one() -> None:
    """Against a float64 computation with scipy-free square roots of the plain covariances."""

    def root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values, vectors = np.linalg.eigh(matrix)
        result: npt.NDArray[np.float64] = vectors @ np.diag(np.sqrt(values)) @ vectors.T
        return result

    style, content = soft(5), soft(6, 100, 160)
    (mean_s, cov_s), (mean_c, cov_c) = moments(style), moments(content)
    floor = 1e-4 * np.eye(3)
    matrix = root(cov_c + floor) @ np.linalg.inv(root(cov_s + floor))
    expected = ((style / 255.0 - mean_s) @ matrix.T + mean_c) * 255.0
    assert np.abs(match_colours(style, content) - expected).max() <= 0.51


def test_matching_a_picture_with_itself_changes_nothing() -> None:
    assert np.abs(match_colours(scene(), scene()).astype(int) - scene()).max() <= 1


@pytest.mark.parametrize("value", [0, 128, 255])
def test_single_colours_and_grey_pictures_are_no_trouble(value: int) -> None:
    flat = np.full((20, 30, 3), value, np.uint8)
    grey = np.repeat(scene()[..., :1], 3, axis=-1)
    for style, content in (
        (flat, scene()),
        (scene(), flat),
        (flat, flat),
        (grey, scene()),
        (scene(), grey),
    ):
        result = match_colours(style, content)
        assert result.shape == style.shape
        assert np.abs(result.mean(axis=(0, 1)) - content.mean(axis=(0, 1))).max() < 25


def test_one_pixel_is_enough() -> None:
    assert match_colours(np.full((1, 1, 3), 9, np.uint8), scene()).shape == (1, 1, 3)
