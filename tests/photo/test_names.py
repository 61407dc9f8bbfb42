from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstd.photo import names
from nstd.photo.names import KNOWN_EXTENSIONS, format_of_name, is_image_name, unreadable_remedy


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("beach.jpg", "jpg"),
        ("BEACH.JPEG", "jpg"),
        ("a.b.Tif", "tiff"),
        ("x.heic", "heif"),
        ("été 🏖.webp", "webp"),
        ("beach.content.png", "png"),
        ("beach", None),
        (".jpg", None),
        ("beach.jpg.part", None),
        ("beach.txt", None),
        ("", None),
    ],
)
def test_the_extension_tells_the_format(name: str, format_: str | None) -> None:
    assert format_of_name(name) == format_
    assert is_image_name(name) is (format_ is not None)


def test_raw_files_are_pictures_that_cannot_be_read() -> None:
    for name in ("x.CR2", "x.nef", "x.dng", "x.psd", "x.bmp"):
        assert is_image_name(name)
        assert format_of_name(name) is None
        assert "xport" in (unreadable_remedy(name) or "")


def test_what_can_be_read_needs_no_remedy() -> None:
    for name in ("x.jpg", "x.png", "x.tif", "x.webp", "x.gif", "x.txt"):
        assert unreadable_remedy(name) is None


def test_a_heif_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "readable", lambda format_: format_ != "heif")
    assert "nstd[heif]" in (unreadable_remedy("x.HEIC") or "")


def test_extensions_are_lower_case_with_a_dot() -> None:
    assert all(name.startswith(".") and name == name.lower() for name in KNOWN_EXTENSIONS)


@given(st.text())
def test_no_name_is_too_strange(name: str) -> None:
    assert is_image_name(name) is (
        format_of_name(name) is not None or unreadable_remedy(name) is not None
    )
