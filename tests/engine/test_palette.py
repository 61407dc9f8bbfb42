"""The start has the style's colours, unless a mask says that some of it stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nstd.engine.palette import recoloured
from nstd.engine.progress import StyleImage

ONE = np.ones((1, 1, 1, 1), np.float32)


def colours(seed: int, mean: tuple[float, ...], size: tuple[int, int] = (40, 50)) -> NDArray[Any]:
    """Return (H, W, 3) uint8 with correlated colours that stay well within the range."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(0.0, 8.0, (3, 3))
    values = np.array(mean) + rng.normal(0.0, 1.0, (*size, 3)) @ mix
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def start(picture: NDArray[Any]) -> NDArray[Any]:
    return (picture[None] / 255.0).astype(np.float32)


def test_mean_and_covariance_become_the_styles() -> None:
    style = colours(1, (90.0, 120.0, 150.0))
    moved = recoloured(start(colours(2, (140.0, 100.0, 110.0))), [[StyleImage(style)]], [ONE])
    flat, wanted = moved.reshape(-1, 3), style.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(flat.mean(0), wanted.mean(0), atol=2e-3)
    np.testing.assert_allclose(np.cov(flat.T), np.cov(wanted.T), atol=3e-4)


def test_styles_are_mixed_by_their_weights() -> None:
    red, blue = np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    styles = [StyleImage(red, 3.0), StyleImage(blue, 1.0)]
    moved = recoloured(start(colours(3, (120.0, 120.0, 120.0))), [styles], [ONE])
    mean = moved.reshape(-1, 3).mean(0) * 255.0
    assert mean[0] > 2 * mean[2] > mean[1]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_one_colour_becomes_the_styles_mean(grey: int) -> None:
    style = colours(4, (90.0, 120.0, 150.0))
    moved = recoloured(start(np.full((16, 16, 3), grey, np.uint8)), [[StyleImage(style)]], [ONE])
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved.reshape(-1, 3).mean(0), style.mean((0, 1)) / 255.0, atol=0.01)


def test_a_plain_colour_has_no_colours_to_give() -> None:
    content = start(colours(5, (140.0, 100.0, 110.0)))
    plain = StyleImage(np.full((9, 9, 3), 77, np.uint8))
    np.testing.assert_array_equal(recoloured(content, [[plain]], [ONE]), content)


def test_each_place_takes_the_colours_of_its_region_and_what_has_none_keeps_its_own() -> None:
    content = start(colours(6, (140.0, 100.0, 110.0)))
    one, two = ([StyleImage(colours(seed, (90.0, 120.0, 150.0)))] for seed in (7, 8))
    left, right = np.zeros((2, 1, 40, 50, 1), np.float32)
    left[:, :, :20], right[:, :, 20:40] = 1.0, 1.0
    moved = recoloured(content, [one, two], [left, right])
    np.testing.assert_allclose(
        moved[:, :, :20], recoloured(content, [one], [ONE])[:, :, :20], atol=1e-6
    )
    np.testing.assert_allclose(
        moved[:, :, 20:40], recoloured(content, [two], [ONE])[:, :, 20:40], atol=1e-6
    )
    np.testing.assert_array_equal(moved[:, :, 40:], content[:, :, 40:])


def test_the_styles_own_colours_change_nothing() -> None:
    picture = colours(9, (120.0, 110.0, 130.0))
    moved = recoloured(start(picture), [[StyleImage(picture)]], [ONE])
    np.testing.assert_allclose(moved, start(picture), atol=1e-4)
