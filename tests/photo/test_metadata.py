from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from PIL.ExifTags import IFD, Base

from nstd.photo import metadata as metadata_
from nstd.photo.metadata import NOTHING, Metadata, keep
from tests.photo.make import UPRIGHT, read, saved


def exif(details: dict[int, Any] | None = None, **tags: Any) -> Image.Exif:
    block = Image.Exif()
    for name, value in tags.items():
        block[Base[name]] = value
    block.get_ifd(IFD.Exif).update(details or {})
    return block


def read_exif(block: Image.Exif) -> Metadata:
    return metadata_.read(block, {})


def test_a_picture_without_facts_has_none() -> None:
    assert read_exif(Image.Exif()) == NOTHING
    assert metadata_.write(NOTHING) == b""


def test_the_moment_of_the_photograph_wins_over_that_of_the_file() -> None:
    block = exif({Base.DateTimeOriginal: "2020:01:02 03:04:05"}, DateTime="2024:01:01 00:00:00")
    assert read_exif(block).taken == "2020:01:02 03:04:05"


@pytest.mark.parametrize(
    "nonsense", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""]
)
def test_a_clock_that_was_never_set_tells_no_date(nonsense: str) -> None:
    assert read_exif(exif({Base.DateTimeOriginal: nonsense})).taken is None


def test_the_time_zone_goes_with_its_date() -> None:
    block = exif({Base.DateTimeOriginal: "2020:01:02 03:04:05", Base.OffsetTimeOriginal: "-03:30"})
    assert read_exif(block).zone == "-03:30"


@pytest.mark.parametrize(
    "stored", ["Zoë".encode(), "Zoë".encode("latin-1"), b"Zo\xc3\xab\0\0", b"  Zo\xc3\xab\r\n"]
)
def test_an_author_is_read_in_utf8_or_latin1_and_cleaned(stored: bytes) -> None:
    assert read_exif(exif(Artist=stored)).author == "Zoë"


def test_the_author_of_windows_counts_too() -> None:
    assert read_exif(exif(XPAuthor="Zoë\0".encode("utf-16-le"))).author == "Zoë"


def test_the_author_of_a_png_text_counts_too() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "Zoë")
    assert read(saved(UPRIGHT, "PNG", pnginfo=texts)).metadata.author == "Zoë"


def test_an_endless_author_is_cut() -> None:
    author = read_exif(exif(Artist="x" * 100_000)).author
    assert author is not None
    assert len(author) == 2000


def test_the_place_is_dropped_unless_asked_for() -> None:
    metadata = Metadata(author="Zoë", gps=b"place")
    assert keep(metadata, gps=True) == metadata
    assert keep(metadata, gps=False) == Metadata(author="Zoë")


@pytest.mark.parametrize("hostile", [{1: 3, 2: "x"}, {2: (1, 0)}, {99999: b"x"}, {1: "\ud800"}])
def test_a_senseless_place_never_raises(hostile: dict[int, Any]) -> None:
    block = Image.Exif()
    block.get_ifd(IFD.GPSInfo).update(hostile)
    gps = read_exif(block).gps
    assert gps is None or isinstance(gps, bytes)


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=50)


@given(author=st.none() | texts, owner=st.none() | texts, description=st.none() | texts)
def test_what_is_written_is_read_back(
    author: str | None, owner: str | None, description: str | None
) -> None:
    metadata = Metadata(taken="2024:05:06 07:08:09", author=author, copyright=owner)
    block = Image.Exif()
    block.load(metadata_.write(metadata, description))
    assert read_exif(block) == metadata
