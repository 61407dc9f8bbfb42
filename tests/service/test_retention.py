"""Housekeeping removes what is too old or too much, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.service import places
from nstd.service.retention import DAY_S, EVERY_S, Retention
from tests.service.kit import Bench

REPORT = '{"picture": {}, "report": 1, "job": "j", "inputs": [], "parameters": {}}'


def aged(path: Path, days: float, now: float, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text)
    os.utime(path, (now - days * DAY_S,) * 2)
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()


def tidy(bench: Bench, **settings: object) -> None:
    bench.settings = {f"retention.{name}": value for name, value in settings.items()}
    bench.daemon.reload()
    retention = Retention(bench.daemon.house)
    retention.look(bench.at)
    while retention._task is not None:
        retention.look(bench.at)


def test_by_default_nothing_goes(bench: Bench) -> None:
    aged(bench.root / "outbox" / "a.json", 1000, bench.at, REPORT)
    aged(bench.root / "originals" / "a.jpg", 1000, bench.at)
    tidy(bench)
    assert bench.listing("originals") == ["a.jpg"]
    assert "a.json" in bench.listing("outbox")


def test_old_reports_go_and_pictures_and_other_files_stay(bench: Bench) -> None:
    aged(bench.root / "outbox" / "s" / "old.json", 40, bench.at, REPORT)
    aged(bench.root / "outbox" / "s" / "old.jpg", 40, bench.at)
    aged(bench.root / "outbox" / "theirs.json", 40, bench.at, '{"my": "data"}')
    aged(bench.root / "outbox" / "new.json", 10, bench.at, REPORT)
    tidy(bench, reports_days=30)
    assert bench.outbox() == ["new.json", "s/old.jpg", "theirs.json"]


def test_old_originals_go_with_the_folders_they_leave_empty(bench: Bench) -> None:
    aged(bench.root / "originals" / "s" / "t" / "old.jpg", 40, bench.at)
    aged(bench.root / "originals" / "new.jpg", 10, bench.at)
    tidy(bench, originals_days=30)
    assert bench.listing("originals") == ["new.jpg"]
    assert not (bench.root / "originals" / "s").exists()


def test_beyond_a_size_the_oldest_originals_go_first(bench: Bench) -> None:
    for days, name in ((3, "c"), (1, "a"), (2, "b")):
        aged(bench.root / "originals" / f"{name}.jpg", days, bench.at, "x" * 100)
    tidy(bench, originals_max_bytes=250)
    assert bench.listing("originals") == ["a.jpg", "b.jpg"]


def test_old_failures_go_and_folders_that_are_not_ours_stay(bench: Bench) -> None:
    ours = bench.root / "failed" / "beach-20250131-235959-k3v7q2"
    for folder in (ours, bench.root / "failed" / "keepsakes"):
        aged(folder / "beach.jpg", 40, bench.at)
        os.utime(folder, (bench.at - 40 * DAY_S,) * 2)
    tidy(bench, failed_days=30)
    assert bench.listing("failed") == ["keepsakes/beach.jpg"]


def test_a_link_in_a_tidied_folder_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    outside = aged(tmp_path / "outside" / "precious.jpg", 400, bench.at)
    (bench.root / "originals" / "link").symlink_to(outside.parent)
    tidy(bench, originals_days=30)
    assert outside.exists()


def test_ended_jobs_leave_the_ledger(bench: Bench) -> None:
    bench.style()
    bench.drop("starry/a.jpg")
    bench.settle()
    bench.paint()
    bench.at += 40 * DAY_S
    tidy(bench, ledger_days=30)
    assert bench.jobs() == []
    assert bench.outbox() == ["starry/a.jpg", "starry/a.json"]


def test_an_unmounted_folder_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(bench.root / "originals" / "old.jpg", 40, bench.at)
    bench.daemon.house.mounts._known[str(bench.root / "originals")] = "/srv/away"
    monkeypatch.setattr(places, "is_mounted", lambda root: root != "/srv/away")
    tidy(bench, originals_days=30)
    assert bench.listing("originals") == ["old.jpg"]


def test_the_work_is_done_in_slices_and_once_an_hour(bench: Bench) -> None:
    for number in range(50):
        aged(bench.root / "originals" / f"{number}.jpg", 40, bench.at)
    bench.settings = {"retention.originals_days": 30}
    bench.daemon.reload()
    ticks = iter(range(10_000))
    retention = Retention(bench.daemon.house, clock=lambda: float(next(ticks)))
    retention.look(bench.at)
    assert retention._task is not None
    assert len(bench.listing("originals")) == 50
    for _ in range(500):
        retention.look(bench.at)
    assert bench.listing("originals") == []
    aged(bench.root / "originals" / "again.jpg", 40, bench.at)
    retention.look(bench.at + EVERY_S / 2)
    assert bench.listing("originals") == ["again.jpg"]
