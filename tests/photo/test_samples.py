from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from tests.photo.make import RAMP_8, RAMP_16, UPRIGHT, near, png_16, png_insert, read, saved, tiff


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    for data in (png_16(RAMP_16), tiff(RAMP_16), tiff(RAMP_16, order=">")):
        pixels = read(data).pixels
        assert np.array_equal(pixels[..., 0], RAMP_8)
        assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_16_bit_colour_is_scaled_and_not_clipped() -> None:
    deep = np.dstack([RAMP_16, RAMP_16[::-1], RAMP_16 // 2])
    expected = np.dstack([RAMP_8, RAMP_8[::-1], RAMP_8 // 2])
    for data in (png_16(deep), tiff(deep), tiff(deep, order=">")):
        assert np.abs(read(data).pixels.astype(int) - expected).max() <= 1


def test_16_bit_alpha_is_scaled_too() -> None:
    deep = np.dstack([RAMP_16] * 3 + [np.full_like(RAMP_16, 0x8080)])
    alpha = read(png_16(deep)).alpha
    assert alpha is not None
    assert np.array_equal(np.unique(alpha), [128])


def test_the_transparent_grey_of_a_16_bit_png_is_transparent() -> None:
    flat = np.full((8, 8), 40000, np.uint16)
    flat[0, 0] = 40001  # the same in 8 bits
    data = png_insert(png_16(flat), b"tRNS", struct.pack(">H", 40000))
    alpha = read(data).alpha
    assert alpha is not None
    assert alpha[0, 0] == 255
    assert alpha.sum() == 255


def test_12_bit_floating_and_32_bit_grey_use_the_full_range() -> None:
    for samples in (
        (RAMP_16 / 65535.0).astype(np.float32),
        RAMP_16.astype(np.uint32),
        (RAMP_16.astype(np.float32) - 30000.0),
        RAMP_16.astype(np.uint32) * 30000,
    ):
        assert np.abs(read(tiff(samples)).pixels[..., 1].astype(int) - RAMP_8).max() <= 1


def test_samples_that_are_no_numbers_count_as_black() -> None:
    samples = np.full((8, 8), 0.5, np.float32)
    samples[0, 0], samples[0, 1] = np.nan, np.inf
    pixels = read(tiff(samples)).pixels
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 1, 0] == 0
    assert abs(int(pixels[4, 4, 0]) - 128) <= 1


def test_one_bit_is_black_and_white() -> None:
    bits = Image.fromarray(RAMP_8).convert("1")
    for format_ in ("PNG", "TIFF"):
        assert np.array_equal(read(saved(bits, format_)).pixels[..., 0], np.asarray(bits) * 255)


def test_grey_becomes_three_equal_channels() -> None:
    for format_, within in (("PNG", 0.0), ("JPEG", 2.0), ("TIFF", 0.0)):
        pixels = read(saved(RAMP_8, format_)).pixels
        assert pixels.shape == (48, 64, 3)
        assert near(pixels, np.dstack([RAMP_8] * 3), within=within)


def test_a_palette_is_looked_up() -> None:
    indexed = Image.fromarray(UPRIGHT).quantize(32)
    expected = np.asarray(indexed.convert("RGB"))
    for format_ in ("PNG", "GIF", "TIFF"):
        assert np.array_equal(read(saved(indexed, format_)).pixels, expected)


def test_a_palette_with_a_transparent_entry_gives_alpha() -> None:
    indexed = Image.fromarray(UPRIGHT).quantize(8)
    hidden = np.asarray(indexed) == 3
    for format_ in ("PNG", "GIF"):
        alpha = read(saved(indexed, format_, transparency=3)).alpha
        assert alpha is not None
        assert np.array_equal(alpha == 0, hidden)


def test_a_palette_with_graded_transparency_gives_graded_alpha() -> None:
    indexed = Image.fromarray(UPRIGHT).quantize(4)
    levels = bytes([0, 80, 160, 255])
    alpha = read(saved(indexed, "PNG", transparency=levels)).alpha
    assert alpha is not None
    assert np.array_equal(alpha, np.frombuffer(levels, np.uint8)[np.asarray(indexed)])


def test_a_transparent_colour_of_an_rgb_png_gives_alpha() -> None:
    data = saved(UPRIGHT, "PNG", transparency=(250, 20, 20))
    alpha = read(data).alpha
    assert alpha is not None
    assert np.array_equal(alpha == 0, (UPRIGHT == (250, 20, 20)).all(axis=-1))


def test_grey_with_alpha_keeps_both() -> None:
    alpha = np.full((48, 64), 200, np.uint8)
    image = Image.merge("LA", (Image.fromarray(RAMP_8), Image.fromarray(alpha)))
    for format_ in ("PNG", "TIFF"):
        photo = read(saved(image, format_))
        assert photo.alpha is not None
        assert np.array_equal(photo.alpha, alpha)
        assert near(photo.pixels[..., 0], RAMP_8, within=0.0)


def test_premultiplied_alpha_is_divided_out() -> None:
    straight, alpha = np.array([200, 100, 50]), 128
    premultiplied = np.full((8, 8, 4), 0, np.uint8)
    premultiplied[..., :3] = np.rint(straight * alpha / 255.0)
    premultiplied[..., 3] = alpha
    photo = read(tiff(premultiplied, extra=1))
    assert np.abs(photo.pixels[4, 4].astype(int) - straight).max() <= 2


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    image = Image.fromarray(UPRIGHT)
    image.putalpha(255)
    assert read(saved(image, "PNG")).alpha is None


def _cmyk() -> Image.Image:
    return Image.fromarray(UPRIGHT).convert("CMYK")


def _without_adobe(jpeg: bytes) -> bytes:
    """Cut the APP14 segment out: no Adobe marker, no inversion."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def test_a_cmyk_jpeg_of_adobe_is_inverted_back() -> None:
    data = saved(_cmyk(), "JPEG", quality=95)
    assert b"Adobe" in data
    assert near(read(data).pixels, UPRIGHT, within=3.0)


def test_a_cmyk_jpeg_without_adobe_marker_is_taken_as_it_is() -> None:
    inverted = Image.fromarray(255 - np.asarray(_cmyk()), "CMYK")
    data = _without_adobe(saved(inverted, "JPEG", quality=95))
    assert b"Adobe" not in data
    assert near(read(data).pixels, UPRIGHT, within=3.0)


def test_a_cmyk_tiff_is_read() -> None:
    assert near(read(saved(_cmyk(), "TIFF")).pixels, UPRIGHT, within=1.0)


def test_a_lab_tiff_is_read_as_colours() -> None:
    lab = np.zeros((8, 8, 3), np.uint8)
    lab[..., 0] = 128  # half of L*, no colour
    pixels = read(saved(Image.fromarray(lab, "LAB"), "TIFF")).pixels
    assert near(pixels, np.full((8, 8, 3), 119), within=3.0)
