"""A task ends in exactly one of finished, failed, handed back, whatever happens in it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nstd.engine.progress import StepReport
from nstd.errors import ConfigError, DeviceError, MemoryExhaustedError, NoSpaceError, NstdError
from nstd.jobs import publish
from nstd.jobs.spec import JobSpec, StyleChoice
from nstd.photo.decode import decode
from nstd.workers import decode_child, task
from nstd.workers.executor import (
    Event,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobProgress,
    Task,
)
from nstd.workers.settings import PaintSettings, WorkerSettings
from nstd.workers.standin import Faults, Standin
from nstd.workers.wire import RESUMED, Sign
from tests.workers.conftest import PARAMS, make_task, sha256

ENDS = (JobFinished, JobFailed, JobHandedBack)


@pytest.fixture(autouse=True)
def _decoding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: the child has tests of its own."""

    def decode_here(path: str, limits: Any, *, max_side: int, name: str, **_limits: Any) -> Any:
        return decode(Path(path).read_bytes(), limits=limits, max_side=max_side, name=name)

    monkeypatch.setattr(decode_child, "decode_limited", decode_here)


def run(
    job: Task, faults: str = "", control: task.Control | None = None
) -> tuple[NstdError | None, list[Event]]:
    events: list[Event] = []
    error = task.run_task(
        job,
        Standin("cpu", Faults.parse(faults)),
        PaintSettings(checkpoint_s=0.0),
        post=task.Post("w0", "cpu", events.append, events.append),
        control=control or task.Control(),
    )
    return error, events


def end_of(events: list[Event]) -> Event:
    ends = [event for event in events if isinstance(event, ENDS)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    return ends[0]


def test_a_good_task_leaves_picture_and_report_and_nothing_half_done(tmp_path: Path) -> None:
    job = make_task(tmp_path)
    (Path(job.job_dir) / ".nstd-0123456789abcdef.tmp").write_text("of a crash")
    error, events = run(job)
    assert error is None
    end = end_of(events)
    assert isinstance(end, JobFinished)
    assert sorted(os.listdir(f"{job.job_dir}/result")) == ["picture.png", "report.json"]
    assert json.loads(Path(end.report).read_text())["picture"]["sha256"] == sha256(end.picture)
    assert not [name for name in os.listdir(job.job_dir) if name.endswith(".tmp")]


def test_painting_again_replaces_what_a_lost_attempt_left(tmp_path: Path) -> None:
    job = make_task(tmp_path)
    first = end_of(run(job)[1])
    again = end_of(run(dataclasses.replace(job, resume=False))[1])
    assert isinstance(first, JobFinished)
    assert isinstance(again, JobFinished)
    assert (first.picture, first.report) == (again.picture, again.report)
    assert sorted(os.listdir(f"{job.job_dir}/result")) == ["picture.png", "report.json"]


@pytest.mark.parametrize(
    ("fault", "reason", "retry"),
    [("oom", "oom", True), ("gpu", "gpu", True), ("nan", "nan", False), ("bug", "other", False)],
)
def test_errors_arrive_by_their_kind(tmp_path: Path, fault: str, reason: str, retry: bool) -> None:
    _, events = run(make_task(tmp_path), f"at=1 do={fault}")
    end = end_of(events)
    assert isinstance(end, JobFailed)
    assert (end.reason, end.retry) == (reason, retry)


def test_a_full_disk_at_the_end_is_a_passing_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    job = make_task(tmp_path)
    monkeypatch.setattr(publish, "hook", full)
    error, events = run(job)
    end = end_of(events)
    assert isinstance(error, NoSpaceError)
    assert isinstance(end, JobFailed)
    assert (end.reason, end.retry) == ("no_space", True)


def after_steps(count: int, flag: Callable[[], None]) -> Callable[[Event], None]:
    def see(event: Event) -> None:
        if isinstance(event, JobProgress) and event.report.step >= count:
            flag()

    return see


def interrupted(job: Task, *, stop: bool) -> list[Event]:
    control = task.Control()
    flag = control.stopping if stop else control.cancelled
    events: list[Event] = []
    see = after_steps(1, flag.set)

    def post(event: Event) -> None:
        events.append(event)
        see(event)

    task.run_task(
        job,
        Standin("cpu", Faults()),
        PaintSettings(),
        post=task.Post("w0", "cpu", post, post),
        control=control,
    )
    return events


def test_a_stop_hands_back_and_a_resume_gives_the_identical_picture(tmp_path: Path) -> None:
    calm = end_of(run(make_task(tmp_path, "calm"))[1])
    job = make_task(tmp_path, "stopped")
    assert isinstance(end_of(interrupted(job, stop=True)), JobHandedBack)
    _, events = run(job)
    end = end_of(events)
    assert Sign(RESUMED, "stopped") in events
    assert isinstance(calm, JobFinished)
    assert isinstance(end, JobFinished)
    assert sha256(end.picture) == sha256(calm.picture)


def test_a_cancellation_fails_the_job_as_cancelled(tmp_path: Path) -> None:
    end = end_of(interrupted(make_task(tmp_path), stop=False))
    assert isinstance(end, JobFailed)
    assert end.reason == "cancelled"


def test_a_cancellation_that_came_before_the_start_counts(tmp_path: Path) -> None:
    control = task.Control()
    control.cancelled.set()
    end = end_of(run(make_task(tmp_path), control=control)[1])
    assert isinstance(end, JobFailed)
    assert end.reason == "cancelled"


def test_the_first_step_is_told_at_once_and_the_last_one_too(tmp_path: Path) -> None:
    _, events = run(make_task(tmp_path))
    steps = [event.report.step for event in events if isinstance(event, JobProgress)]
    assert steps[:2] == [0, 1]
    assert steps[-1] == PARAMS.iterations


def test_reports_are_passed_on_four_times_a_second_at_most() -> None:
    events: list[Event] = []
    reporter = task._Reporter("j", task.Post("w0", "cpu", events.append, events.append))
    for step in range(1000):
        reporter.report(StepReport(step, 1000, 0, 1, 8, 8, None, 0.0, None))
    reporter.flush()
    steps = [event.report.step for event in events if isinstance(event, JobProgress)]
    assert len(steps) < 50
    assert (steps[:2], steps[-1]) == ([0, 1], 999)


def test_several_images_of_a_library_style_share_its_weight() -> None:
    choice = StyleChoice("sea", 3.0, library=True, files=("style/a.jpg", "style/b.jpg"))
    own = StyleChoice("scream.jpg", 1.0)
    spec = JobSpec("x.jpg", (choice, own), mask="m.png", params=PARAMS)
    request = task.request_of("j", "/spool/j", spec)
    assert [(each.path, each.shown(), each.weight) for each in request.styles] == [
        ("/spool/j/style/a.jpg", "sea/a.jpg", 1.5),
        ("/spool/j/style/b.jpg", "sea/b.jpg", 1.5),
        ("/spool/j/input/scream.jpg", "scream.jpg", 1.0),
    ]
    assert request.content.path == "/spool/j/input/x.jpg"
    assert request.mask is not None
    assert request.mask.path == "/spool/j/input/m.png"


def tensorflow_error(name: str) -> Exception:
    """Return what looks like an error of TensorFlow, which is not loaded here."""
    kind = type(name, (Exception,), {"__module__": "tensorflow.python.framework.errors_impl"})
    error: Exception = kind("inside")
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MemoryExhaustedError),
        (tensorflow_error("ResourceExhaustedError"), MemoryExhaustedError),
        (tensorflow_error("InternalError"), DeviceError),
        (tensorflow_error("InvalidArgumentError"), NstdError),
        (KeyError("x"), NstdError),
    ],
)
def test_foreign_errors_become_ours(
    error: Exception, kind: type[NstdError], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = task.as_nstd_error(error, "j")
    assert type(ours) is kind
    assert "Traceback" not in str(ours)
    assert (type(error).__name__ in capsys.readouterr().err) == (kind is NstdError)


def test_the_stand_in_is_taken_only_when_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    painter = task.build_engine(WorkerSettings(), "cpu")
    assert painter.facts()["engine"] == "standin"
    monkeypatch.setenv("NSTD_ENGINE", "other")
    with pytest.raises(ConfigError, match="other"):
        task.build_engine(WorkerSettings(), "cpu")
