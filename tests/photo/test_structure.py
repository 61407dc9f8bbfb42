from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from nstd.errors import DecodeError
from tests.photo.make import UPRIGHT, needs_avif, needs_heif, noise, read, saved, zeroed


@pytest.mark.parametrize(
    "options",
    [
        {"format_": "JPEG", "quality": 90},
        {"format_": "JPEG", "quality": 90, "progressive": True},
        {"format_": "PNG"},
        {"format_": "WEBP", "quality": 90},
        {"format_": "WEBP", "lossless": True},
        {"format_": "TIFF"},
        {"format_": "TIFF", "compression": "tiff_lzw"},
        {"format_": "GIF"},
        pytest.param({"format_": "AVIF"}, marks=needs_avif),
        pytest.param({"format_": "HEIF"}, marks=needs_heif),
    ],
    ids=str,
)
@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
def test_a_half_arrived_picture_is_never_taken_for_a_whole_one(
    options: dict[str, Any], keep: float
) -> None:
    data = saved(noise(200, 301), **options)
    for broken in (zeroed(data, keep), data[: int(len(data) * keep)]):
        with pytest.raises(DecodeError, match=r'"beach\.jpg" is damaged') as caught:
            read(broken)
        assert caught.value.remedy == "Export or copy it again."


def test_a_cut_jpeg_says_where_it_ends() -> None:
    data = saved(noise(100, 100), "JPEG")
    with pytest.raises(DecodeError) as caught:
        read(data[:-900])
    assert str(caught.value) == (
        '"beach.jpg" is damaged: it ends in the middle of the picture. Export or copy it again.'
    )


def test_a_flat_jpeg_with_optimized_tables_is_no_damage() -> None:
    flat = Image.new("RGB", (3000, 3000), "white")
    data = saved(flat, "JPEG", optimize=True)
    assert bytes(4096) in data
    assert read(data, max_side=100).size == (3000, 3000)


def test_what_a_phone_appends_is_no_damage() -> None:
    whole = saved(UPRIGHT, "JPEG")
    for trailer in (
        b"\0" * 5000,
        b"SEFH" + bytes(40) + b"SEFT",
        b"\0\0\0\x18ftypmp42" + bytes(9000),
    ):
        assert read(whole + trailer).size == (64, 48)


@pytest.mark.parametrize(
    "format_", [pytest.param("HEIF", marks=needs_heif), pytest.param("AVIF", marks=needs_avif)]
)
@pytest.mark.parametrize("trailer", [bytes(600), b"SEFH" + bytes(90) + b"SEFT", b"\xff" * 50])
def test_what_a_phone_appends_to_a_modern_picture_is_no_damage(
    format_: str, trailer: bytes
) -> None:
    assert read(saved(UPRIGHT, format_) + trailer).size == (64, 48)
