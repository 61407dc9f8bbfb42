from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nstd.errors import DecodeError
from nstd.jobs import publish
from tests.jobs.house import House
from tests.jobs.test_spool import admitted, names, paint


class Crash(BaseException):
    """The process is gone."""


def again(house: House) -> House:
    house.close()
    house.open()
    return house


def forget(house: House) -> House:
    """Lose the ledger, as after a repair of the disk."""
    house.close()
    for path in house.state.glob("ledger*"):
        path.unlink()
    house.open()
    return house


def test_a_folder_that_was_never_committed_goes_and_its_photograph_stays(house: House) -> None:
    (house.inbox / "starry").mkdir()
    (house.inbox / "starry" / "a.jpg").write_bytes(b"photograph")
    calls: list[str] = []

    def die(name: str) -> None:
        calls.append(name)
        if "commit" in calls:
            raise Crash

    publish.hook = die
    with pytest.raises(Crash):
        house.admit()
    publish.hook = publish._no_hook
    assert len(os.listdir(house.folders.spool)) == 1
    again(house)
    assert os.listdir(house.folders.spool) == []
    assert names(house.inbox) == ["starry/a.jpg"]
    assert house.admit()


def test_a_photograph_that_got_its_old_times_after_the_crash_is_taken_once(house: House) -> None:
    house.mode = "copy"
    (house.inbox / "starry").mkdir()
    path = house.inbox / "starry" / "a.jpg"
    path.write_bytes(b"photograph")

    def die(name: str) -> None:
        if name == "commit":
            raise Crash

    publish.hook = die
    with pytest.raises(Crash):
        house.admit()
    publish.hook = publish._no_hook
    os.utime(path, (1e9, 1e9))  # as Syncthing does once the file has its name
    again(house)
    assert os.listdir(house.folders.spool) == []
    assert house.admit()
    assert not house.admit()


def test_a_lost_ledger_loses_no_photograph(house: House) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph", "starry/a.yaml": b"priority: 3"})
    forget(house)
    assert "taken up again" in house.notes[0]
    (found,) = house.ledger.unfinished()
    assert found == job
    paint(house, found)
    assert names(house.originals) == ["starry/a.jpg", "starry/a.yaml"]


def test_a_lost_ledger_in_copy_intake_admits_anew(house: House) -> None:
    house.mode = "copy"
    admitted(house, {"starry/a.jpg": b"photograph"})
    forget(house)
    assert os.listdir(house.folders.spool) == []
    assert house.admit()


def test_a_job_whose_folder_is_gone_fails_with_what_to_do(house: House) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    shutil.rmtree(house.spool.job_dir(job.id))
    again(house)
    ended = house.ledger.get(job.id)
    assert ended.state == "failed"
    assert "inbox" in ended.remedy
    assert [os.path.basename(name) for name in names(house.failed)] == ["error.json", "error.txt"]


def test_what_is_not_ours_in_the_spool_is_left_and_said(house: House) -> None:
    (Path(house.folders.spool) / "lost+found").mkdir()
    again(house)
    assert any("lost+found" in note for note in house.notes)
    assert os.listdir(house.folders.spool) == ["lost+found"]


def test_half_written_entries_are_swept_and_said(house: House) -> None:
    for folder in (house.folders.spool, house.folders.failed):
        (Path(folder) / publish.temporary_name() / "input").mkdir(parents=True)
    again(house)
    assert sum("Removed 1 half-written" in note for note in house.notes) == 2
    assert os.listdir(house.folders.spool) == os.listdir(house.folders.failed) == []


def test_an_ending_that_was_recorded_goes_on(house: House) -> None:
    failing = admitted(house, {"starry/a.jpg": b"photograph"})
    house.ledger.begin_failing(failing.id, DecodeError("Torn."), f"a-{failing.id}")
    again(house)
    assert house.ledger.get(failing.id).state == "failed"
    delivered = admitted(house, {"starry/b.jpg": b"photograph"})
    house.ledger.start(delivered.id)
    house.ledger.begin_delivery(delivered.id, [])
    house.ledger.delivered(delivered.id)
    again(house)
    assert house.ledger.get(delivered.id).state == "done"
    assert names(house.originals) == ["starry/b.jpg"]


def test_jobs_of_a_dead_daemon_are_queued_again_and_counted(house: House) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    house.ledger.start(job.id)
    again(house)
    found = house.ledger.get(job.id)
    assert (found.state, found.daemon_deaths) == ("queued", 1)
