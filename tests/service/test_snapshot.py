from __future__ import annotations

import json
import math

import pytest

from nstd.errors import StorageError
from nstd.service.snapshot import (
    EndedJob,
    FolderView,
    QueuedJob,
    RunningJob,
    Snapshot,
    WaitingFile,
    WorkerView,
)

FULL = Snapshot(
    taken=1000.0,
    state="ready",
    version="1",
    pid=7,
    started=900.0,
    notes=("The disk is full.",),
    weights="builtin",
    device="cpu",
    capacity=64,
    pending={"queued": 1, "running": 1},
    totals={"done": 3},
    running=(
        RunningJob(
            "a",
            "x/beach.jpg",
            "x",
            "w0",
            "optimize",
            950.0,
            step=50,
            steps=200,
            losses={"total": 2.0},
            history=((1, 9.0), (2, 8.0)),
            eta_s=7.0,
        ),
    ),
    queued=(QueuedJob("b", "x/hill.jpg", "x", 960.0),),
    deferred=(QueuedJob("c", "x/city.jpg", "x", 960.0, retry_at=1010.0, reason="No memory."),),
    waiting=(WaitingFile("lone.jpg", "no style", 990.0, deadline=1890.0),),
    recent=(EndedJob("d", "x/sea.jpg", "x", "done", 980.0, picture="x/sea.jpg"),),
    failed=(EndedJob("e", "x/bad.jpg", "x", "failed", 970.0, error="Damaged."),),
    workers=(WorkerView("w0", "busy", "cpu", job="a"),),
    folders=(FolderView("inbox", "/srv/inbox", 5),),
    ignored={"temp": 2, "extension": 1},
    no_images=("x/album.zip",),
    styles=("x",),
)


def test_the_json_form_reads_back_as_the_same_snapshot() -> None:
    assert Snapshot.from_json(FULL.to_json()) == FULL


def test_the_json_form_carries_the_percentage_for_scripts() -> None:
    assert json.loads(FULL.to_json())["running"][0]["percent"] == 25.0


def test_names_of_any_bytes_pass_through_json() -> None:
    odd = Snapshot(0.0, "ready", waiting=(WaitingFile("a\udcff\n\u202e😀", "", 0.0),))
    assert odd.to_json().isascii()
    assert Snapshot.from_json(odd.to_json()) == odd


def test_a_diverged_loss_is_null_in_json() -> None:
    job = RunningJob("a", "n", "s", "w", "optimize", 0.0, losses={"total": math.nan})
    data = json.loads(Snapshot(0.0, "ready", running=(job,)).to_json())
    assert data["running"][0]["losses"] == {"total": None}


def test_unknown_keys_of_a_newer_patch_are_skipped() -> None:
    data = {**json.loads(FULL.to_json()), "fresh": 1}
    assert Snapshot.from_json(json.dumps(data)) == FULL


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 99}', '{"format": 1}'])
def test_damaged_or_foreign_json_is_refused_in_words(text: str) -> None:
    with pytest.raises(StorageError, match="status"):
        Snapshot.from_json(text)


def test_the_share_done_is_between_nothing_and_all() -> None:
    def share(step: int, steps: int) -> float:
        return RunningJob("a", "n", "s", "w", "optimize", 0.0, step=step, steps=steps).share

    assert share(0, 0) == 0.0
    assert share(5, 10) == 0.5
    assert share(11, 10) == 1.0
