"""Where the folders' file systems are mounted is remembered over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nstd.service import places
from nstd.service.mounts import MOUNTS_FILE, Mounts


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def test_what_was_learned_is_known_after_a_restart(state: Path, tmp_path: Path) -> None:
    Mounts(str(state)).learn([str(tmp_path)])
    assert Mounts(str(state)).of(str(tmp_path)) == places.mount_root(str(tmp_path))


def test_an_unmounted_folder_is_named_with_the_way_out(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / MOUNTS_FILE).write_text('{"/srv/share/inbox": "/srv/share"}')
    mounts = Mounts(str(state))
    monkeypatch.setattr(places, "is_mounted", lambda _root: False)
    words = mounts.missing("/srv/share/inbox")
    assert "Nothing is mounted on /srv/share" in words
    assert MOUNTS_FILE in words
    assert mounts.missing("/another") == ""


def test_a_place_that_is_known_is_not_learned_anew(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / MOUNTS_FILE).write_text('{"/srv/share/inbox": "/srv/share"}')
    mounts = Mounts(str(state))
    mounts.learn(["/srv/share/inbox"])
    assert mounts.of("/srv/share/inbox") == "/srv/share"


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '"x"'])
def test_a_damaged_memory_is_forgotten(state: Path, text: str) -> None:
    (state / MOUNTS_FILE).write_text(text)
    assert Mounts(str(state)).of("/srv") == ""


def test_a_folder_that_is_not_there_teaches_nothing(state: Path) -> None:
    Mounts(str(state)).learn(["/nowhere/at/all"])
    assert not (state / MOUNTS_FILE).exists()
