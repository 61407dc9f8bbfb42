from __future__ import annotations

import numpy as np
import pytest

from nstd.errors import DecodeError
from tests.photo.make import noise, read, saved, scene, tiff, zeroed


def test_a_black_bottom_of_an_uncompressed_tiff_is_no_damage() -> None:
    letterbox = noise(200, 301)
    letterbox[120:] = 0
    assert np.array_equal(read(saved(letterbox, "TIFF")).pixels, letterbox)
    drawing = np.zeros((200, 301, 3), np.uint8)
    rows, columns = np.mgrid[0:200, 0:301]
    drawing[(rows - 60) ** 2 + (columns - 150) ** 2 < 50**2] = (200, 100, 50)
    assert np.array_equal(read(saved(drawing, "TIFF")).pixels, drawing)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("deep", [False, True])
def test_an_uncompressed_tiff_that_breaks_off_is_damaged(keep: float, deep: bool) -> None:
    pixels = noise(200, 301)
    data = tiff(pixels.astype(np.uint16) * 257 if deep else pixels)
    with pytest.raises(DecodeError, match="filled with zeros"):
        read(zeroed(data, keep))


@pytest.mark.parametrize("method", [0, 4])
def test_a_flat_bottom_of_a_webp_is_no_damage(method: int) -> None:
    """The fastest method writes it as tens of thousands of zeros."""
    pixels = np.zeros((1500, 2000, 3), np.uint8)
    pixels[:750] = noise(750, 2000)
    pixels[750:, 900:1000] = 200
    data = saved(pixels, "WEBP", quality=80, method=method)
    assert data.endswith(bytes(64))
    assert read(data, max_side=100).size == (2000, 1500)


@pytest.mark.parametrize("quality", [30, 80, 95])
@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9])
def test_a_lossy_webp_that_breaks_off_is_damaged(quality: int, keep: float) -> None:
    pixels = scene(400, 600) // 2 + noise(400, 600) // 2
    with pytest.raises(DecodeError, match="filled with zeros"):
        read(zeroed(saved(pixels, "WEBP", quality=quality), keep))


def test_a_flat_lossless_webp_is_no_damage() -> None:
    data = saved(np.full((2000, 2000, 3), 255, np.uint8), "WEBP", lossless=True)
    assert read(data).size == (2000, 2000)
