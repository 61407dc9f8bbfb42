from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.photo.make import RAMP_8, UPRIGHT, near, png_insert, profile, read, saved


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_icc_profile_is_followed(format_: str) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 230
    pixels = read(saved(red, format_, icc_profile=profile("swapped"))).pixels
    assert pixels[8, 8, 2] > 200
    assert pixels[8, 8, 0] < 60


def test_a_grey_profile_is_followed() -> None:
    grey = np.full((8, 8), 64, np.uint8)
    pixels = read(saved(grey, "PNG", icc_profile=profile("grey"))).pixels
    assert 130 <= pixels[4, 4, 0] <= 142  # sRGB of linear 0.25 is 137


def test_srgb_itself_changes_no_pixel() -> None:
    assert np.array_equal(read(saved(UPRIGHT, "PNG", icc_profile=profile("srgb"))).pixels, UPRIGHT)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"not a profile",
        bytes(500),
        profile("swapped")[:100],
        profile("swapped")[:150],
        profile("grey"),  # made for other channels
        profile("swapped")[:128] + b"\xff" * 400,
    ],
    ids=["empty", "text", "zeros", "cut", "cut table", "grey for RGB", "nonsense table"],
)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_broken_profile_is_ignored(format_: str, broken: bytes) -> None:
    data = saved(UPRIGHT, format_, icc_profile=broken)
    assert near(read(data).pixels, UPRIGHT, within=8.0)


def test_an_iccp_chunk_that_does_not_inflate_is_ignored() -> None:
    data = png_insert(saved(UPRIGHT, "PNG"), b"iCCP", b"x\0\0not zlib")
    assert np.array_equal(read(data).pixels, UPRIGHT)


def test_a_profile_keeps_the_alpha() -> None:
    image = Image.fromarray(UPRIGHT)
    image.putalpha(Image.fromarray(RAMP_8))
    alpha = read(saved(image, "PNG", icc_profile=profile("swapped"))).alpha
    assert alpha is not None
    assert np.array_equal(alpha, RAMP_8)
