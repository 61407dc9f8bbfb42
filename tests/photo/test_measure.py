"""A picture's size by its first bytes is the one that decoding finds; doubt is None."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nstd.photo import measure
from nstd.photo.decode import decode
from nstd.photo.limits import Limits


def encoded(form: str, size: tuple[int, int] = (33, 21), orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a maker with a long name"
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, form, exif=exif)
    return buffer.getvalue()


def measured(folder: Path, data: bytes) -> tuple[int, int] | None:
    path = folder / "picture"
    path.write_bytes(data)
    return measure.upright_size(str(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_measured_as_it_is_seen(tmp_path: Path, orientation: int) -> None:
    data = encoded("JPEG", orientation=orientation)
    assert measured(tmp_path, data) == decode(data, limits=Limits()).pixels.shape[:2]


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_is_read(tmp_path: Path, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = 8
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", exif=exif.tobytes())
    assert measured(tmp_path, buffer.getvalue()) == (30, 20)


def test_a_png_is_measured(tmp_path: Path) -> None:
    assert measured(tmp_path, encoded("PNG")) == (21, 33)


@pytest.mark.parametrize("form", ["WEBP", "TIFF", "GIF"])
def test_of_other_formats_nothing_is_said(tmp_path: Path, form: str) -> None:
    assert measured(tmp_path, encoded(form)) is None


def test_of_a_file_that_is_not_there_nothing_is_said(tmp_path: Path) -> None:
    assert measure.upright_size(str(tmp_path / "none")) is None
    assert measure.upright_size(str(tmp_path)) is None


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), form=st.sampled_from(["JPEG", "PNG"]), count=st.integers(1, 40))
def test_no_damage_raises(
    tmp_path_factory: pytest.TempPathFactory, seed: int, form: str, count: int
) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(form, orientation=6))
    for at in rng.integers(0, min(len(data), 200), count):
        data[at] = rng.integers(0, 256)
    measured(tmp_path_factory.getbasetemp(), bytes(data[: rng.integers(0, len(data))]))
