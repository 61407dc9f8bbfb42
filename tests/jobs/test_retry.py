from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from nstd.errors import DecodeError, UsageError
from nstd.jobs import publish
from nstd.jobs.inputs import Rules
from nstd.jobs.job import Job
from nstd.jobs.retry import retry
from tests.jobs.house import House
from tests.jobs.test_recovery import Crash, again
from tests.jobs.test_spool import admitted, names, paint


def failed(house: House, drops: dict[str, bytes]) -> Job:
    job = admitted(house, drops)
    if job.state == "failing":
        return house.spool.set_aside(job.id)
    return house.spool.set_aside(job.id, DecodeError("Torn."))


def once_more(house: House, job: Job) -> Job:
    return retry(house.spool, job.id, house.library(), Rules())


def folder_of(house: House, job: Job) -> Path:
    return house.failed / (job.failed_folder or "")


def test_a_failed_job_comes_back_as_a_new_one(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph", "starry/a.yaml": b"size: 64"})
    new = once_more(house, job)
    assert (new.state, new.retry_of, new.folder) == ("queued", job.id, "starry")
    assert os.listdir(house.failed) == []
    assert new.spec is not None
    assert new.spec.params.size == 64
    paint(house, new)
    assert names(house.originals) == ["starry/a.jpg", "starry/a.yaml"]
    assert house.ledger.get(job.id).state == "failed"


def test_a_mended_sidecar_is_read_anew(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph", "starry/a.yaml": b"siez: 1\nsize: 64"})
    assert job.reason == "sidecar"
    (folder_of(house, job) / "a.yaml").write_bytes(b"size: 96")
    new = once_more(house, job)
    assert new.spec is not None
    assert new.spec.params.size == 96


def test_what_is_still_wrong_is_said_and_everything_stays(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph", "starry/a.yaml": b"siez: 1\nsize: 64"})
    with pytest.raises(UsageError, match="siez"):
        once_more(house, job)
    assert folder_of(house, job).is_dir()
    assert house.ledger.unfinished() == []


def test_a_lone_photograph_is_still_without_a_style(house: House) -> None:
    job = failed(house, {"lone.jpg": b"photograph"})
    with pytest.raises(UsageError, match="no style"):
        once_more(house, job)


def test_a_job_is_tried_again_once_only(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    once_more(house, job)
    with pytest.raises(UsageError, match="not in"):
        once_more(house, job)


@pytest.mark.parametrize("state", ["queued", "done"])
def test_only_a_failed_or_cancelled_job_can_be_tried_again(house: House, state: str) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    if state == "done":
        paint(house, job)
    with pytest.raises(UsageError, match=state):
        once_more(house, job)


def test_a_style_that_is_gone_is_named(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    (house.root / "styles" / "starry.jpg").unlink()
    with pytest.raises(UsageError, match="starry"):
        once_more(house, job)


def test_an_emptied_folder_is_said(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    (folder_of(house, job) / "a.jpg").unlink()
    with pytest.raises(UsageError, match="no files"):
        once_more(house, job)
    shutil.rmtree(folder_of(house, job))
    with pytest.raises(UsageError, match="not in"):
        once_more(house, job)


def test_the_second_failure_has_its_own_folder(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    new = once_more(house, job)
    house.spool.set_aside(new.id, DecodeError("Torn again."))
    (folder,) = house.failed.iterdir()
    assert new.id in folder.name


@pytest.mark.parametrize("when", ["commit", "after"])
def test_a_crash_on_the_way_back_leaves_one_of_the_two(house: House, when: str) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    committed: list[str] = []

    def die(name: str) -> None:
        if committed or (name == "commit" and when == "commit"):
            raise Crash
        if name == "commit":
            committed.append(name)

    publish.hook = die
    with pytest.raises(Crash):
        once_more(house, job)
    publish.hook = publish._no_hook
    again(house)
    assert len(house.ledger.unfinished()) == (when == "after")
    assert len(os.listdir(house.failed)) == (when == "commit")


def test_a_folder_that_resists_goes_later(house: House) -> None:
    job = failed(house, {"starry/a.jpg": b"photograph"})
    committed: list[str] = []

    def resist(name: str) -> None:
        if committed and name == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name == "commit":
            committed.append(name)

    publish.hook = resist
    new = once_more(house, job)
    publish.hook = publish._no_hook
    assert folder_of(house, job).is_dir()
    paint(house, new)
    again(house)
    assert os.listdir(house.failed) == []
