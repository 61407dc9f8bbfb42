"""What a worker may hold at a time, and what becomes of its jobs when it dies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from nstd.engine.params import StyleParams
from nstd.jobs.spec import JobSpec, StyleChoice
from nstd.workers.executor import GoneReason, JobFailed, JobHandedBack, JobLost, Task, WorkerGone
from nstd.workers.held import Hands, Held
from nstd.workers.patience import Patience, Supervision
from nstd.workers.settings import WorkerSettings


def task(job_id: str = "new", company: str = "kind", size: int = 512) -> Task:
    spec = JobSpec("a.jpg", (StyleChoice("b"),), params=StyleParams(size=size))
    return Task(job_id, f"/spool/{job_id}", spec, company=company)


def held(job_id: str, company: str = "kind") -> Held:
    return Held(task(job_id, company), Patience(Supervision(), 0.0))


def hands(jobs: Iterable[str], places: int = 3, pixels: int = 0) -> Hands:
    made = Hands(places, pixels)
    for job_id in jobs:
        made.take(held(job_id))
    return made


def test_tasks_of_one_company_share_as_many_places_as_there_are() -> None:
    assert hands("a").joins(task(), out_of_turn=False)
    assert hands("ab").joins(task(), out_of_turn=False)
    assert not hands("abc").joins(task(), out_of_turn=False)
    assert not hands("a", places=1).joins(task(), out_of_turn=False)


def test_another_company_or_none_stays_away() -> None:
    assert not hands("a").joins(task(company="other"), out_of_turn=False)
    assert not hands("a").joins(task(company=""), out_of_turn=False)
    alone = Hands(places=3)
    alone.take(held("a", company=""))
    assert not alone.joins(task(company=""), out_of_turn=False)


def test_no_more_pixels_come_together_than_memory_allows() -> None:
    room = 2 * task(size=512).pixels
    assert hands("a", pixels=room).joins(task(size=512), out_of_turn=False)
    assert not hands("ab", pixels=room).joins(task(size=512), out_of_turn=False)
    assert not hands("a", pixels=room).joins(task(size=1024), out_of_turn=False)


def test_after_the_first_end_only_those_whose_turn_it_is_come_along() -> None:
    some = hands("ab")
    assert some.joins(task(), out_of_turn=True)
    some.let_go("a")
    assert some.joins(task(), out_of_turn=False)
    assert not some.joins(task(), out_of_turn=True)
    some.let_go("b")
    some.take(held("c"))
    assert some.joins(task(), out_of_turn=True)


def test_who_was_alone_is_blamed() -> None:
    some = hands("a")
    some.jobs["a"].note_step(3)
    gone = WorkerGone("w0", "crash", "a", stepped=True, detail="signal SIGSEGV")
    assert some.drop("w0", "crash", detail="signal SIGSEGV") == [gone]
    assert not some


@pytest.mark.parametrize("reason", ["crash", "oom", "stuck", "memory", "device"])
def test_of_several_none_is_blamed(reason: GoneReason) -> None:
    some = hands("abc")
    some.jobs["b"].note_step(3)
    assert some.drop("w0", reason, detail="") == [
        *(JobLost(job_id, "w0", reason) for job_id in "abc"),
        WorkerGone("w0", reason, None, stepped=False),
    ]


def test_a_cancelled_job_ends_so_and_the_others_are_lost() -> None:
    some = hands("ab")
    some.jobs["a"].cancel_by = 1.0
    failed, lost, gone = some.drop("w0", "stuck", detail="")
    assert isinstance(failed, JobFailed)
    assert (failed.job_id, failed.reason) == ("a", "cancelled")
    assert lost == JobLost("b", "w0", "stuck")
    assert gone == WorkerGone("w0", "stuck", None, stepped=False)


def test_a_stop_hands_all_back() -> None:
    assert hands("ab").drop("w0", "stop", detail="") == [
        JobHandedBack("a"), JobHandedBack("b"), WorkerGone("w0", "stop", None, stepped=False),
    ]  # fmt: skip


def test_a_gpu_has_several_places_and_a_cpu_one_unless_told() -> None:
    settings = WorkerSettings()
    assert (settings.places("cpu"), settings.places("gpu:0")) == (1, 8)
    told = dataclasses.replace(settings, batch=3)
    assert (told.places("cpu"), told.places("gpu:1")) == (3, 3)
