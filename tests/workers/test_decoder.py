"""Styles are decoded once and kept within bounds; photographs are not kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nstd.photo.decode import decode
from nstd.workers import decode_child
from nstd.workers.decoder import Decoder
from nstd.workers.painting import Source
from nstd.workers.settings import PaintSettings
from tests.workers.conftest import picture


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what was decoded, here and not in a child."""
    names: list[str] = []

    def decode_here(path: str, limits: Any, *, max_side: int, name: str, **_limits: Any) -> Any:
        names.append(name)
        return decode(Path(path).read_bytes(), limits=limits, max_side=max_side, name=name)

    monkeypatch.setattr(decode_child, "decode_limited", decode_here)
    return names


def style(folder: Path, name: str, sha256: str = "") -> Source:
    return Source(str(picture(folder / name, 1)), "style", sha256=sha256 or name)


def test_a_style_is_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    decoder = Decoder(PaintSettings())
    source = style(tmp_path, "a.png")
    first, second = decoder.style(source, 64), decoder.style(source, 64)
    assert np.array_equal(first, second)
    assert decoded == ["a.png"]


def test_a_style_of_other_bytes_or_for_another_size_is_decoded_anew(
    tmp_path: Path, decoded: list[str]
) -> None:
    decoder = Decoder(PaintSettings())
    decoder.style(style(tmp_path, "a.png", "one"), 64)
    decoder.style(style(tmp_path, "a.png", "two"), 64)
    decoder.style(style(tmp_path, "a.png", "two"), 32)
    assert len(decoded) == 3


def test_the_styles_that_were_used_last_are_kept_within_bounds(
    tmp_path: Path, decoded: list[str]
) -> None:
    room = 2 * 64 * 48 * 3
    decoder = Decoder(PaintSettings(), room)
    for name in ("a.png", "b.png", "a.png", "c.png", "a.png", "b.png"):
        decoder.style(style(tmp_path, name), 64)
    assert decoded == ["a.png", "b.png", "c.png", "b.png"]


def test_nobody_can_change_a_style_that_others_will_get(tmp_path: Path, decoded: list[str]) -> None:
    pixels = Decoder(PaintSettings()).style(style(tmp_path, "a.png"), 64)
    with pytest.raises(ValueError):
        pixels[0, 0] = 0


def test_a_photograph_is_decoded_each_time(tmp_path: Path, decoded: list[str]) -> None:
    decoder = Decoder(PaintSettings())
    source = Source(str(picture(tmp_path / "a.png")), "content", sha256="same")
    decoder.photo(source, 64)
    decoder.photo(source, 64)
    assert len(decoded) == 2


def test_one_file_is_decoded_at_a_time_and_whoever_waits_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nstd.workers.decoder.LOOK_S", 0.001)
    running, most, enough = [0], [0], threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        enough.wait(60)
        running[0] -= 1

    monkeypatch.setattr(decode_child, "decode_limited", slow)
    decoder = Decoder(PaintSettings())
    source = style(tmp_path, "a.png")
    threads = [
        threading.Thread(target=decoder.photo, args=(source, 64, enough.set)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert enough.is_set()  # only a thread that waited has set it
    assert most == [1]
