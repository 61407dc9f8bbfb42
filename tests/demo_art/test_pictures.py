"""The sample pictures are the same on every run, and have what a photograph and a painting have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nstd.demo_art.painting import painting
from nstd.demo_art.scene import photograph

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Picture:
    return photograph()


@pytest.fixture(scope="module")
def art() -> Picture:
    return painting()


def test_pictures_are_the_same_on_every_run(photo: Picture, art: Picture) -> None:
    assert np.array_equal(photograph(), photo)
    assert np.array_equal(painting(), art)


def test_pictures_are_colour_images_of_a_useful_size(photo: Picture, art: Picture) -> None:
    for picture in (photo, art):
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert min(picture.shape[:2]) >= 512


def test_pictures_use_the_whole_range_and_clip_little(photo: Picture, art: Picture) -> None:
    for picture in (photo, art):
        low, high = np.percentile(picture, (1, 99))
        assert low < 40
        assert high > 200
        assert np.mean((picture == 0) | (picture == 255)) < 0.02


def test_photograph_is_smooth_with_fine_grain(photo: Picture) -> None:
    sky = photo[20:80, 380:520].astype(float).mean(-1)
    grain = np.diff(sky, axis=1).std()
    assert 0.2 < grain < 4


def test_painting_is_rougher_than_the_photograph(photo: Picture, art: Picture) -> None:
    def roughness(picture: Picture) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())

    assert roughness(art) > 3 * roughness(photo)


def test_painting_has_a_rich_palette(art: Picture) -> None:
    red, green, blue = art.astype(float).reshape(-1, 3).T
    assert np.mean((blue > red + 30) & (blue > green)) > 0.2  # sky
    assert np.mean((red > blue + 60) & (green > blue)) > 0.1  # field
    assert np.mean((green > red + 10) & (green > blue + 5)) > 0.03  # trees and hills
