"""Checkpoints and previews never end a job, never cost much, and never mix up two jobs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstd.engine.progress import Checkpoint
from nstd.jobs import publish
from nstd.workers.keeper import CHECKPOINT, MAX_SHARE, RETRY_S, Keeper

PIXELS = np.zeros((8, 12, 3), np.uint8)


def checkpoint(step: int = 1, job_hash: str = "mine") -> Checkpoint:
    return Checkpoint(job_hash, {"step": step}, {"image": np.ones((2, 2), np.float32)})


def fail_with(number: int) -> Callable[[str], None]:
    def hook(name: str) -> None:
        raise OSError(number, os.strerror(number), name)

    return hook


class Slow:
    """A clock by which every write takes one second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path))
    keeper.checkpoint(checkpoint(7))
    loaded = keeper.load("mine")
    assert loaded is not None
    assert loaded.facts == {"step": 7}
    assert np.array_equal(loaded.arrays["image"], np.ones((2, 2), np.float32))
    assert os.listdir(tmp_path) == [CHECKPOINT]


def test_without_a_checkpoint_there_is_none_and_no_note(tmp_path: Path) -> None:
    notes: list[str] = []
    assert Keeper(str(tmp_path), note=notes.append).load("mine") is None
    assert notes == []


def test_another_jobs_checkpoint_is_refused_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    keeper = Keeper(str(tmp_path), note=notes.append)
    keeper.checkpoint(checkpoint())
    assert keeper.load("other") is None
    assert len(notes) == 1


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_damaged_checkpoint_is_refused_with_a_note(tmp_path: Path, keep: int) -> None:
    notes: list[str] = []
    keeper = Keeper(str(tmp_path), note=notes.append)
    keeper.checkpoint(checkpoint())
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    assert keeper.load("mine") is None
    assert len(notes) == 1


def test_checkpoints_take_at_most_their_share_of_the_run(tmp_path: Path) -> None:
    clock = Slow()
    keeper = Keeper(str(tmp_path), clock=clock)
    keeper.checkpoint(checkpoint(1))  # takes half a second: the next one not before 10 s
    keeper.checkpoint(checkpoint(2))
    assert _step(keeper) == 1
    clock.now += 0.5 / MAX_SHARE
    keeper.checkpoint(checkpoint(3))
    assert _step(keeper) == 3


def test_the_last_one_before_a_stop_is_written_whatever_it_costs(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path), urgent=lambda: True, clock=Slow())
    keeper.checkpoint(checkpoint(1))
    keeper.checkpoint(checkpoint(2))
    assert _step(keeper) == 2


def _step(keeper: Keeper) -> int:
    loaded = keeper.load("mine")
    assert loaded is not None
    return int(loaded.facts["step"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_a_checkpoint_is_named_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    notes: list[str] = []
    clock = Slow()
    keeper = Keeper(str(tmp_path), note=notes.append, clock=clock)
    monkeypatch.setattr(publish, "hook", fail_with(number))
    for _ in range(3):
        keeper.checkpoint(checkpoint())
        clock.now += RETRY_S
    assert len(notes) == 1
    monkeypatch.undo()
    keeper.checkpoint(checkpoint(4))
    assert _step(keeper) == 4


def test_a_preview_is_a_whole_picture_and_replaces_the_last(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path))
    for value in (0, 255):
        path = keeper.preview(PIXELS + np.uint8(value))
        assert path is not None
        with Image.open(path) as image:
            assert image.size == (12, 8)
            assert image.getpixel((3, 3)) == (value, value, value)
    assert len(os.listdir(tmp_path)) == 1


def test_a_preview_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    notes: list[str] = []
    keeper = Keeper(str(tmp_path / "gone"), note=notes.append)
    assert keeper.preview(PIXELS) is None
    assert keeper.preview(PIXELS) is None
    assert len(notes) == 1
