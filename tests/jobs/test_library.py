from __future__ import annotations

import os
from pathlib import Path

import pytest

from nstd.jobs.library import find_style, scan_library


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_an_image_is_a_style_and_a_folder_of_images_is_one(tmp_path: Path) -> None:
    write(tmp_path / "starry-night.jpg")
    write(tmp_path / "Waves" / "b.png")
    write(tmp_path / "Waves" / "a.jpg")
    write(tmp_path / "Waves" / "style.yaml", b"style_weight: 30\npreset: fine")
    library = scan_library(str(tmp_path))
    assert sorted(library) == ["Waves", "starry-night"]
    waves = library["Waves"]
    assert [os.path.basename(path) for path in waves.images] == ["a.jpg", "b.png"]
    assert waves.settings == {"style_weight": 30.0, "preset": "fine"}
    assert all(style.problem is None for style in library.values())


def test_no_folder_is_an_empty_library(tmp_path: Path) -> None:
    assert scan_library(str(tmp_path / "absent")) == {}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("s/style.yaml", b"content: x", "unknown key"),
        ("s/style.yaml", b"size: big", "size"),
        ("s/notes.txt", b"", "no image"),
        ("s.cr2", b"", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_style_is_said_in_words(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    write(tmp_path / name, data)
    (style,) = scan_library(str(tmp_path)).values()
    assert words in (style.problem or "")
    assert not (style.problem or "").endswith(".")


@pytest.mark.parametrize("twins", [("a.jpg", "a.png"), ("a.jpg", "A.jpg"), ("a.jpg", "a/x.jpg")])
def test_two_styles_of_one_name_are_one_too_many(tmp_path: Path, twins: tuple[str, str]) -> None:
    for name in twins:
        write(tmp_path / name)
    library = scan_library(str(tmp_path))
    assert any("more than one" in (style.problem or "") for style in library.values())


def test_links_pipes_hidden_and_half_written_files_are_no_styles(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere" / "secret.jpg")
    styles = tmp_path / "styles"
    write(styles / ".hidden.jpg")
    write(styles / "a.jpg.part")
    write(styles / "bad\nname.jpg")
    write(styles / "notes.yaml")
    (styles / "link.jpg").symlink_to(secret)
    (styles / "folder").symlink_to(secret.parent)
    os.mkfifo(styles / "pipe.jpg")
    write(styles / "good" / "a.jpg")
    (styles / "good" / "link.jpg").symlink_to(secret)
    library = scan_library(str(styles))
    assert list(library) == ["good"]
    assert len(library["good"].images) == 1


def test_a_settings_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "s" / "a.jpg")
    secret = write(tmp_path / "secret", b"size: 64")
    (tmp_path / "s" / "style.yaml").symlink_to(secret)
    (style,) = scan_library(str(tmp_path)).values()
    assert style.problem
    assert style.settings == {}


def test_a_style_is_found_as_clients_spell_it(tmp_path: Path) -> None:
    write(tmp_path / "caf\u00e9.jpg")
    library = scan_library(str(tmp_path))
    found = find_style("CAFE\u0301", library)
    assert found is not None
    assert found.name == "caf\u00e9"
    assert find_style("tea", library) is None
