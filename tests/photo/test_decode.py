from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstd.errors import DecodeError
from nstd.photo.decode import decode, decode_mask
from tests.photo.make import (
    LIMITS,
    RAMP_8,
    UPRIGHT,
    exif_of,
    near,
    needs_avif,
    needs_heif,
    read,
    saved,
    scene,
)

# --- kinds of pictures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "options", "name", "within"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, "jpg", 2.0),
        ("JPEG", {"quality": 95, "progressive": True}, "jpg", 3.0),
        ("PNG", {}, "png", 0.0),
        ("WEBP", {"lossless": True}, "webp", 0.0),
        ("WEBP", {"quality": 95}, "webp", 4.0),
        ("TIFF", {}, "tiff", 0.0),
        ("TIFF", {"compression": "tiff_lzw"}, "tiff", 0.0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "tiff", 0.0),
        pytest.param("AVIF", {"quality": 95}, "avif", 4.0, marks=needs_avif),
        pytest.param("HEIF", {"quality": 95}, "heif", 4.0, marks=needs_heif),
    ],
)
def test_each_format_is_read_as_it_was_written(
    format_: str, options: dict[str, Any], name: str, within: float
) -> None:
    photo = read(saved(UPRIGHT, format_, **options))
    assert photo.format == name
    assert photo.alpha is None
    assert photo.size == (64, 48)
    assert near(photo.pixels, UPRIGHT, within=within)


def test_pixels_own_their_memory_and_may_be_written() -> None:
    photo = read(saved(UPRIGHT, "PNG"))
    photo.pixels[0, 0] = 0
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous


def test_a_wrong_extension_does_not_matter() -> None:
    assert decode(saved(UPRIGHT, "PNG"), limits=LIMITS, name="beach.jpg").format == "png"


# --- orientation -------------------------------------------------------------------------------

_STORED = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: np.rot90(np.fliplr(p), 1),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(np.fliplr(p), -1),
    8: lambda p: np.rot90(p, -1),
}
"""How a camera that is held so stores the upright scene."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_is_put_upright(format_: str, orientation: int) -> None:
    stored = np.ascontiguousarray(_STORED[orientation](UPRIGHT))
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = saved(stored, format_, exif=exif_of(Orientation=orientation), **options)
    photo = read(data)
    assert photo.size == (64, 48)
    assert np.array_equal(photo.pixels, UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "format_", [pytest.param("HEIF", marks=needs_heif), pytest.param("AVIF", marks=needs_avif)]
)
def test_formats_that_turn_by_themselves_are_not_turned_twice(
    format_: str, orientation: int
) -> None:
    stored = np.ascontiguousarray(_STORED[orientation](UPRIGHT))
    photo = read(saved(stored, format_, quality=95, exif=exif_of(Orientation=orientation)))
    assert photo.size == (64, 48)
    assert near(photo.pixels, UPRIGHT, within=5.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_put_upright_when_it_is_reduced_too(orientation: int) -> None:
    large = scene(480, 640)
    stored = np.ascontiguousarray(_STORED[orientation](large))
    data = saved(stored, "JPEG", quality=95, exif=exif_of(Orientation=orientation))
    photo = read(data, max_side=40)
    assert photo.size == (640, 480)
    assert photo.pixels.shape == (60, 80, 3)
    assert near(photo.pixels, scene(60, 80), within=6.0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_nonsense_orientation_counts_as_upright(orientation: int) -> None:
    data = saved(UPRIGHT, "PNG", exif=exif_of(Orientation=orientation))
    assert np.array_equal(read(data).pixels, UPRIGHT)


def test_alpha_turns_with_its_picture() -> None:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:20, :30] = 255
    stored = np.ascontiguousarray(np.rot90(np.dstack([UPRIGHT, alpha]), 1))
    photo = read(saved(stored, "PNG", exif=exif_of(Orientation=6)))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, alpha)


# --- several pictures in one file --------------------------------------------------------------


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_counts(format_: str) -> None:
    first, second = (Image.new("RGB", (16, 12), colour) for colour in ("red", "blue"))
    data = saved(first, format_, save_all=True, append_images=[second])
    pixels = read(data).pixels
    assert pixels[6, 8, 0] > 200
    assert pixels[6, 8, 2] < 60


# --- reduction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize(("max_side", "least"), [(100, 200), (30, 60), (1, 2)])
def test_a_far_larger_picture_is_reduced_to_no_less_than_twice_what_is_asked(
    format_: str, max_side: int, least: int
) -> None:
    photo = read(saved(scene(600, 800), format_), max_side=max_side)
    assert least <= max(photo.pixels.shape) < 2 * least + 2
    assert photo.size == (800, 600)


def test_a_picture_that_is_small_enough_is_left_alone() -> None:
    assert np.array_equal(read(saved(UPRIGHT, "PNG"), max_side=64).pixels, UPRIGHT)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_sample_can_be_reduced(mode: str) -> None:
    image = Image.fromarray(scene(400, 600))
    image = (
        Image.fromarray(np.full((400, 600), 30000, np.uint16))
        if mode == "I;16"
        else image.convert(mode)
    )
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    assert read(data, max_side=50).pixels.shape == (67, 100, 3)


# --- masks -------------------------------------------------------------------------------------


def test_a_mask_is_its_brightness() -> None:
    assert np.array_equal(decode_mask(saved(RAMP_8, "PNG"), LIMITS), RAMP_8)


def test_a_mask_is_closed_where_it_is_transparent() -> None:
    image = Image.new("LA", (8, 8), (255, 0))
    image.putpixel((2, 3), (255, 128))
    mask = decode_mask(saved(image, "PNG"), LIMITS)
    assert mask[3, 2] == 128
    assert mask.sum() == 128


def test_what_a_file_carries_besides_is_read() -> None:
    data = saved(
        UPRIGHT, "JPEG", exif=exif_of(Artist="Zoë".encode(), DateTime="2024:05:06 07:08:09")
    )
    metadata = read(data).metadata
    assert metadata.author == "Zoë"
    assert metadata.taken == "2024:05:06 07:08:09"


def test_the_limits_of_pillow_are_left_as_they_were() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DecodeError):
        read(b"\x89PNG\r\n\x1a\n" + bytes(40))
    assert before == Image.MAX_IMAGE_PIXELS
    Image.open(io.BytesIO(saved(UPRIGHT, "PNG"))).close()


def test_a_second_picture_inside_a_jpeg_is_passed_over() -> None:
    first, second = (Image.new("RGB", (16, 12), colour) for colour in ("red", "blue"))
    data = saved(first, "MPO", save_all=True, append_images=[second])
    assert read(data).pixels[6, 8, 0] > 200
