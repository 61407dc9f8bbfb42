"""A daemon that was started on a full disk waits for room; one that was asked for an end does not.

The real thing, on a file system that is really full, is a scene of ``namespaced``.
"""

from __future__ import annotations

import pytest

from nstd.errors import ConfigError, NoSpaceError
from nstd.service import life
from nstd.service.config import Config


class Starts:
    """Starts that fail for want of room, and in the end for another reason."""

    def __init__(self, full: int) -> None:
        self.left, self.count = full, 0

    def __call__(self) -> Config:
        self.count += 1
        if self.count <= self.left:
            raise NoSpaceError("There is no room.", "Free some.")
        raise ConfigError("There is room, and nothing else.", "")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "ROOM_PAUSE_S", 0.0)


def test_a_start_on_a_full_disk_is_tried_again_until_there_is_room() -> None:
    starts = Starts(full=3)
    with pytest.raises(ConfigError):
        life.run(starts)
    assert starts.count == 4


def test_whoever_asks_for_an_end_is_told_at_once() -> None:
    starts = Starts(full=3)
    with pytest.raises(NoSpaceError):
        life.run(starts, drain=True)
    assert starts.count == 1
