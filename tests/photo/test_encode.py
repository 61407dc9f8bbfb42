from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base

from nstd.errors import UnsupportedError
from nstd.photo.encode import WRITABLE, encode, extension, writable_format
from nstd.photo.metadata import Metadata
from tests.photo.make import RAMP_8, UPRIGHT, near, noise, profile, read

FULL = Metadata(
    taken="2024:05:06 07:08:09", zone="+02:00", author="Zoë Ångström 日本", copyright="© Zoë"
)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("format_", "within"), [("png", 0), ("tiff", 0), ("jpg", 2), ("webp", 5)])
def test_what_is_written_is_read_back(format_: str, within: float) -> None:
    photo = read(encode(UPRIGHT, format=format_))
    assert photo.format == format_
    assert near(photo.pixels, UPRIGHT, within=within)


@pytest.mark.parametrize("format_", WRITABLE)
def test_the_srgb_profile_is_embedded(format_: str) -> None:
    icc = opened(encode(UPRIGHT, format=format_)).info["icc_profile"]
    assert icc[36:40] == b"acsp"
    assert b"s\0R\0G\0B" in icc or b"sRGB" in icc


def test_a_jpeg_has_full_colour_resolution_and_the_quality_asked_for() -> None:
    data = encode(UPRIGHT, format="jpg")
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x11  # sampling factors of the first component: 1x1
    assert len(encode(UPRIGHT, format="jpg", quality=30)) < len(data)


@pytest.mark.parametrize("quality", [1, 95, 100])
def test_noise_can_be_written_at_any_quality(quality: int) -> None:
    pixels = noise(600, 700)
    assert read(encode(pixels, format="jpg", quality=quality)).size == (700, 600)


@pytest.mark.parametrize("format_", WRITABLE)
def test_the_same_picture_gives_the_same_bytes(format_: str) -> None:
    first, again = (encode(UPRIGHT, format=format_, metadata=FULL, comment="x") for _ in range(2))
    assert first == again


@pytest.mark.parametrize("format_", ["png", "webp", "tiff"])
def test_alpha_comes_back(format_: str) -> None:
    alpha = read(encode(UPRIGHT, format=format_, alpha=RAMP_8)).alpha
    assert alpha is not None
    assert np.array_equal(alpha, RAMP_8)


def test_a_jpeg_with_alpha_lies_on_white() -> None:
    photo = read(encode(UPRIGHT, format="jpg", alpha=np.zeros((48, 64), np.uint8)))
    assert photo.alpha is None
    assert photo.pixels.min() >= 253


@pytest.mark.parametrize("format_", WRITABLE)
def test_date_and_author_stay(format_: str) -> None:
    metadata = read(encode(UPRIGHT, format=format_, metadata=FULL)).metadata
    assert metadata == FULL


@pytest.mark.parametrize("format_", WRITABLE)
def test_orientation_and_thumbnail_never_stay(format_: str) -> None:
    exif = opened(encode(UPRIGHT, format=format_, metadata=FULL)).getexif()
    assert Base.Orientation not in exif
    assert not exif.get_ifd(IFD.IFD1)


def _with_place() -> Metadata:
    exif = Image.Exif()
    exif[IFD.GPSInfo] = {1: "N", 2: (48.0, 30.0, 12.5), 3: "E", 4: (9.0, 3.0, 0.0)}
    exif[Base.Artist] = "Zoë"
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "JPEG", exif=exif.tobytes())
    return read(buffer.getvalue()).metadata


@pytest.mark.parametrize("format_", WRITABLE)
def test_the_place_is_dropped_unless_it_is_asked_for(format_: str) -> None:
    metadata = _with_place()
    assert metadata.gps is not None
    data = encode(UPRIGHT, format=format_, metadata=metadata)
    assert not opened(data).getexif().get_ifd(IFD.GPSInfo)
    kept = encode(UPRIGHT, format=format_, metadata=metadata, keep_gps=True)
    place = opened(kept).getexif().get_ifd(IFD.GPSInfo)
    assert place[1] == "N"
    assert [float(part) for part in place[2]] == [48.0, 30.0, 12.5]
    assert read(kept).metadata.author is not None


def test_a_comment_stands_in_every_format() -> None:
    for format_ in WRITABLE:
        data = encode(UPRIGHT, format=format_, comment="starry-night")
        assert b"starry-night" in data


@pytest.mark.parametrize(
    ("wished", "alpha", "written"),
    [
        ("jpg", False, "jpg"),
        ("jpg", True, "jpg"),
        ("webp", True, "webp"),
        ("heif", False, "jpg"),
        ("heif", True, "png"),
        ("gif", True, "png"),
        ("avif", False, "jpg"),
    ],
)
def test_what_cannot_be_written_becomes_jpeg_or_png(wished: str, alpha: bool, written: str) -> None:
    assert writable_format(wished, alpha) == written


def test_each_writable_format_has_an_extension_that_is_known_again() -> None:
    from nstd.photo.names import format_of_name

    for format_ in WRITABLE:
        assert format_of_name(f"x.{extension(format_)}") == format_


def test_an_unknown_format_and_an_impossible_size_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="heif"):
        encode(UPRIGHT, format="heif")
    with pytest.raises(UnsupportedError, match="16383"):
        encode(np.zeros((1, 16384, 3), np.uint8), format="webp")


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    format_=st.sampled_from(["png", "tiff"]),
    seed=st.integers(0, 2**32 - 1),
    with_alpha=st.booleans(),
)
def test_any_size_survives_a_round_trip(
    height: int, width: int, format_: str, seed: int, with_alpha: bool
) -> None:
    pixels = noise(height, width, seed)
    alpha: Any = None
    if with_alpha:
        alpha = np.random.default_rng(seed).integers(32, 255, (height, width), dtype=np.uint8)
    photo = read(encode(pixels, format=format_, alpha=alpha))
    assert np.array_equal(photo.pixels, pixels)
    assert (photo.alpha is None) is (alpha is None)
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, alpha)


def test_a_foreign_profile_does_not_come_through() -> None:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "PNG", icc_profile=profile("swapped"))
    photo = read(buffer.getvalue())
    again = read(encode(photo.pixels, format="png"))
    assert np.array_equal(again.pixels, photo.pixels)
