"""A worker with several jobs at a time: each ends as it would alone, whatever befalls others."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from nstd.workers.executor import (
    GoneReason,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobLost,
    JobProgress,
    JobStarted,
    Task,
    WorkerGone,
    WorkerReady,
)
from tests.workers.conftest import PARAMS, Bench, NewBench, alive, make_task, sha256

LONG = dataclasses.replace(PARAMS, iterations=1000)
STEADY = dataclasses.replace(PARAMS, iterations=300)
"""Long enough that none has ended before all have begun, on a busy machine."""
SLOW = "step_s=0.02"
NAMES = ("one", "two", "three")


def tasks(folder: Path, params: object = STEADY, names: Sequence[str] = NAMES) -> list[Task]:
    made = [make_task(folder, name, params) for name in names]  # type: ignore[arg-type]
    return [dataclasses.replace(task, company="kind") for task in made]


def submit(b: Bench, jobs: Sequence[Task]) -> None:
    b.until_idle()
    for job in jobs:
        assert b.executor.takes(job)
        b.executor.submit(job)


def until_stepping(b: Bench, names: Sequence[str] = NAMES) -> None:
    def stepping() -> set[str]:
        return {event.job_id for event in b.of(JobProgress) if event.report.step > 0}

    b.until(lambda: stepping() >= set(names), "steps of all")


def calm(bench: NewBench, folder: Path) -> str:
    """Return the sha256 of the picture that one job makes undisturbed."""
    b = bench()
    submit(b, tasks(folder / "calm", names=["calm"]))
    return sha256(b.until_seen(JobFinished).picture)


def painted(b: Bench) -> dict[str, str]:
    return {event.job_id: sha256(event.picture) for event in b.of(JobFinished)}


def test_jobs_of_one_company_are_painted_at_the_same_time(bench: NewBench, tmp_path: Path) -> None:
    wanted = calm(bench, tmp_path)
    b = bench(SLOW, batch=3)
    jobs = tasks(tmp_path)
    submit(b, jobs)
    assert not b.executor.takes(dataclasses.replace(jobs[0], job_id="four"))
    assert b.executor.workers()[0].jobs_held == NAMES
    b.until_seen(JobFinished, 3)
    last_start = max(i for i, event in enumerate(b.seen) if isinstance(event, JobStarted))
    first_end = min(i for i, event in enumerate(b.seen) if isinstance(event, JobFinished))
    assert last_start < first_end
    assert painted(b) == dict.fromkeys(NAMES, wanted)
    b.until_idle()
    assert b.executor.workers()[0].jobs == 3


def test_a_job_of_no_company_has_the_worker_to_itself(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW, batch=3)
    lone = dataclasses.replace(make_task(tmp_path, "lone", LONG), company="")
    submit(b, [lone])
    other = tasks(tmp_path, names=["other"])[0]
    assert not b.executor.takes(other)
    assert not b.executor.takes(dataclasses.replace(other, company=""))
    with pytest.raises(RuntimeError):
        b.executor.submit(other)


def test_an_idle_worker_comes_before_company(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW, batch=2, devices=("cpu", "cpu"))
    b.until(lambda: b.executor.free_slots() == 2, "two workers")
    for job in tasks(tmp_path, LONG, ("one", "two", "three", "four")):
        b.executor.submit(job)
    held = [worker.jobs_held for worker in b.executor.workers()]
    assert sorted(map(len, held)) == [2, 2]
    assert all({"one", "two"} - set(each) for each in held)


def test_a_killed_worker_loses_none_of_its_jobs_and_each_goes_on_alone(
    bench: NewBench, tmp_path: Path
) -> None:
    wanted = calm(bench, tmp_path)
    b = bench(SLOW, batch=3, checkpoint_s=0.05)
    jobs = tasks(tmp_path)
    submit(b, jobs)
    until_stepping(b)
    b.until(
        lambda: all((Path(job.job_dir) / "checkpoint.npz").exists() for job in jobs), "checkpoints"
    )
    os.kill(b.pid, signal.SIGKILL)
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id, gone.stepped) == ("crash", None, False)
    assert sorted(b.of(JobLost), key=lambda lost: NAMES.index(lost.job_id)) == [
        JobLost(name, "w0", "crash") for name in NAMES
    ]
    assert not b.of(JobFinished)
    b.seen.clear()
    for number, job in enumerate(jobs, 1):
        submit(b, [dataclasses.replace(job, company="")])
        b.until_seen(JobFinished, number)
    assert painted(b) == dict.fromkeys(NAMES, wanted)
    resumed = [event.report.step for event in b.of(JobProgress)]
    assert min(resumed) > 0


def test_one_of_them_is_cancelled_and_the_others_never_notice(
    bench: NewBench, tmp_path: Path
) -> None:
    wanted = calm(bench, tmp_path)
    b = bench(SLOW, batch=3)
    submit(b, tasks(tmp_path))
    until_stepping(b)
    pid = b.pid
    assert b.executor.cancel("two")
    failed = b.until_seen(JobFailed)
    assert (failed.job_id, failed.reason) == ("two", "cancelled")
    b.until_seen(JobFinished, 2)
    assert painted(b) == {"one": wanted, "three": wanted}
    assert b.pid == pid
    assert not b.of(WorkerGone)


def test_a_bad_job_fails_and_the_others_never_notice(bench: NewBench, tmp_path: Path) -> None:
    wanted = calm(bench, tmp_path)
    b = bench(f"at=3 do=bug once={tmp_path}/once {SLOW}", batch=3)
    jobs = tasks(tmp_path)
    submit(b, jobs)
    failed = b.until_seen(JobFailed)
    assert failed.reason == "other"
    b.until_seen(JobFinished, 2)
    assert painted(b) == dict.fromkeys({*NAMES} - {failed.job_id}, wanted)
    assert not b.of(WorkerGone)


@pytest.mark.parametrize(
    ("fault", "reason", "gone"), [("oom", "oom", "memory"), ("gpu", "gpu", "device")]
)
def test_a_job_that_exhausts_the_worker_fails_and_the_others_are_handed_back(
    bench: NewBench, tmp_path: Path, fault: str, reason: str, gone: GoneReason
) -> None:
    b = bench(f"at=20 do={fault} once={tmp_path}/once {SLOW}", batch=3)
    submit(b, tasks(tmp_path, LONG))
    failed = b.until_seen(JobFailed)
    assert (failed.reason, failed.retry) == (reason, True)
    left = b.until_seen(WorkerGone)
    assert (left.reason, left.job_id) == (gone, None)
    others = {*NAMES} - {failed.job_id}
    assert {event.job_id for event in b.of(JobHandedBack)} == others
    stepped = {event.job_id for event in b.of(JobProgress) if event.report.step > 0}
    assert all((tmp_path / name / "checkpoint.npz").exists() for name in others & stepped)
    assert not b.of(JobLost)
    b.until_seen(WorkerReady, 2)


@pytest.mark.parametrize("fault", ["crash", "exit"])
def test_a_job_that_ends_the_process_is_not_told_from_the_others(
    bench: NewBench, tmp_path: Path, fault: str
) -> None:
    b = bench(f"at=3 do={fault} {SLOW}", batch=3)
    submit(b, tasks(tmp_path, LONG))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("crash", None)
    assert {event.job_id for event in b.of(JobLost)} == {*NAMES}


def test_one_that_falls_silent_ends_the_worker_though_the_others_talk(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench(f"at=3 do=stall once={tmp_path}/once {SLOW}", batch=3, stall_s=1.0, compile_s=1.0)
    submit(b, tasks(tmp_path, LONG))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("stuck", None)
    assert {event.job_id for event in b.of(JobLost)} == {*NAMES}
    assert any("sign of life" in line for line in b.log)


def test_a_cancelled_job_that_does_not_listen_is_ended_and_the_others_are_lost_not_blamed(
    bench: NewBench, tmp_path: Path
) -> None:
    acted = tmp_path / "acted"
    b = bench(f"at=3 do=stall once={acted} {SLOW}", batch=2, cancel_grace_s=0.1)
    submit(b, tasks(tmp_path, LONG, ["stuck"]))
    b.until(acted.exists, "a stall")
    submit_late = tasks(tmp_path, LONG, ["other"])
    b.executor.submit(submit_late[0])
    until_stepping(b, ["other"])
    b.executor.cancel("stuck")
    b.until_seen(WorkerGone)
    assert [(event.job_id, event.reason) for event in b.of(JobFailed)] == [("stuck", "cancelled")]
    assert [event.job_id for event in b.of(JobLost)] == ["other"]


def test_a_stop_hands_all_of_them_back_and_they_go_on_to_the_same_picture(
    bench: NewBench, tmp_path: Path
) -> None:
    wanted = calm(bench, tmp_path)
    b = bench(SLOW, batch=3)
    jobs = tasks(tmp_path)
    submit(b, jobs)
    until_stepping(b)
    pid = b.pid
    b.executor.stop(30.0)
    b.drain()
    assert {event.job_id for event in b.of(JobHandedBack)} == {*NAMES}
    assert b.of(WorkerGone)[-1].reason == "stop"
    assert not alive(pid)
    again = bench(batch=3)
    submit(again, jobs)
    again.until_seen(JobFinished, 3)
    assert painted(again) == dict.fromkeys(NAMES, wanted)
    assert min(event.report.step for event in again.of(JobProgress)) > 0


def test_a_worker_that_has_had_its_day_takes_no_more_company(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench(SLOW, batch=3, max_jobs=1)
    quick = tasks(tmp_path, dataclasses.replace(PARAMS, iterations=5), names=["quick"])
    submit(b, [*quick, *tasks(tmp_path, LONG, ["long"])])
    b.until_seen(JobFinished)
    assert not b.executor.takes(dataclasses.replace(quick[0], job_id="more"))
    assert not b.of(WorkerGone)
    b.executor.cancel("long")
    assert b.until_seen(WorkerGone).reason == "recycle"
    b.until_seen(WorkerReady, 2)
    assert not b.of(JobLost)
