"""A worker may crash, stall, swell or be cancelled: the executor says so and goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
from pathlib import Path

import pytest
from PIL import Image

from nstd.workers.executor import (
    GoneReason,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobNote,
    JobProgress,
    JobStage,
    JobStarted,
    PreviewReady,
    Task,
    WorkerFailed,
    WorkerGone,
    WorkerReady,
)
from nstd.workers.patience import Supervision
from nstd.workers.process import ChildProcess
from tests.workers.conftest import (
    DEADLINE_S,
    PARAMS,
    Bench,
    NewBench,
    alive,
    make_task,
    picture,
    sha256,
)

LONG = dataclasses.replace(PARAMS, iterations=1000)
SLOW = "step_s=0.02"


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paint(bench: Bench, task: Task) -> str:
    """Paint a task and return its picture's sha256."""
    bench.until_idle()
    bench.executor.submit(task)
    ended = len(bench.of(JobFinished)) + len(bench.of(JobFailed))
    bench.until(lambda: len(bench.of(JobFinished)) + len(bench.of(JobFailed)) > ended, "a picture")
    assert not bench.of(JobFailed) or bench.of(JobFailed)[-1].job_id != task.job_id, bench.seen
    return sha256(bench.of(JobFinished)[-1].picture)


def until_stepping(bench: Bench, task: Task) -> None:
    """Submit a task and wait until it has made a few steps."""
    bench.until_idle()
    bench.executor.submit(task)
    bench.until(lambda: any(event.report.step > 0 for event in bench.of(JobProgress)), "steps")


# --- the good way ------------------------------------------------------------------------------


def test_a_job_is_painted_and_its_way_is_told(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW)
    task = make_task(tmp_path, params=dataclasses.replace(PARAMS, iterations=30))
    paint(b, task)
    done = b.of(JobFinished)[0]
    kinds = [type(event) for event in b.seen]
    assert kinds[:2] == [WorkerReady, JobStarted]
    assert kinds[-1] is JobFinished
    assert [event.stage for event in b.of(JobStage)] == ["decode", "optimize", "encode"]
    assert b.of(JobProgress)[-1].report.step == 30
    assert b.of(PreviewReady)
    with Image.open(done.picture) as picture_:
        assert max(picture_.size) == PARAMS.size
    report = json.loads(Path(done.report).read_text())
    assert report["job"] == task.job_id
    assert report["engine"] == "standin"
    assert [entry["name"] for entry in report["inputs"]] == ["beach.png", "waves.png"]


def test_its_descriptor_wakes_whoever_waits(bench: NewBench) -> None:
    b = bench()
    readable, _, _ = select.select([b.executor.fileno()], [], [], DEADLINE_S)
    assert readable
    b.until_seen(WorkerReady)
    assert select.select([b.executor.fileno()], [], [], 0) == ([], [], [])


def test_a_worker_paints_job_after_job(bench: NewBench, tmp_path: Path) -> None:
    b = bench()
    first = paint(b, make_task(tmp_path, "one"))
    pid = b.pid
    assert paint(b, make_task(tmp_path, "two")) == first
    assert b.pid == pid
    assert b.executor.workers()[0].jobs == 2


def test_one_worker_per_device_paints_at_the_same_time(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW, devices=("cpu", "cpu"))
    b.until(lambda: b.executor.free_slots() == 2, "two workers")
    for name in ("one", "two"):
        b.executor.submit(make_task(tmp_path, name, LONG))
    b.until_seen(JobStarted, 2)
    assert {event.worker for event in b.of(JobStarted)} == {"w0", "w1"}
    assert b.executor.free_slots() == 0
    with pytest.raises(RuntimeError):
        b.executor.submit(make_task(tmp_path, "three"))


# --- bad jobs ----------------------------------------------------------------------------------


def test_a_bad_file_fails_its_job_and_the_next_one_runs(bench: NewBench, tmp_path: Path) -> None:
    b = bench()
    bad = make_task(tmp_path, "bad")
    (Path(bad.job_dir) / "input" / "beach.png").write_text("no picture at all")
    b.until_idle()
    b.executor.submit(bad)
    failed = b.until_seen(JobFailed)
    assert failed.retry is False
    assert failed.message
    paint(b, make_task(tmp_path, "good"))
    assert b.of(WorkerGone) == []


def test_an_unforeseen_error_goes_to_the_log_and_not_to_the_user(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench("at=1 do=bug")
    b.until_idle()
    b.executor.submit(make_task(tmp_path))
    failed = b.until_seen(JobFailed)
    assert failed.reason == "other"
    assert "ZeroDivisionError" in failed.message
    assert "secret" not in failed.message + failed.remedy
    b.until(lambda: any("secret" in line for line in b.log), "the traceback in the log")
    assert b.of(WorkerGone) == []


@pytest.mark.parametrize(
    ("fault", "reason", "gone"), [("oom", "oom", "memory"), ("gpu", "gpu", "device")]
)
def test_an_exhausted_worker_says_so_and_is_replaced(
    bench: NewBench, tmp_path: Path, fault: str, reason: str, gone: GoneReason
) -> None:
    b = bench(f"at=1 do={fault} once={tmp_path}/once")
    b.until_idle()
    b.executor.submit(make_task(tmp_path, "one"))
    failed = b.until_seen(JobFailed)
    assert (failed.reason, failed.retry) == (reason, True)
    left = b.until_seen(WorkerGone)
    assert (left.reason, left.job_id) == (gone, None)
    paint(b, make_task(tmp_path, "two"))


# --- workers that die --------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_job_goes_on_to_the_same_picture(
    bench: NewBench, tmp_path: Path
) -> None:
    params = dataclasses.replace(PARAMS, iterations=40)
    undisturbed = paint(bench(), make_task(tmp_path, "calm", params))
    b = bench(SLOW, checkpoint_s=0.05)
    task = make_task(tmp_path, "rough", params)
    until_stepping(b, task)
    checkpoint = Path(task.job_dir) / "checkpoint.npz"
    b.until(checkpoint.exists, "a checkpoint")
    killed = b.pid
    os.kill(killed, signal.SIGKILL)
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id, gone.stepped) == ("crash", "rough", True)
    assert "SIGKILL" in gone.detail
    assert paint(b, task) == undisturbed
    assert b.pid != killed
    assert any("checkpoint" in note.text for note in b.of(JobNote))


@pytest.mark.parametrize("fault", ["crash", "exit"])
def test_a_worker_that_ends_by_itself_has_crashed(
    bench: NewBench, tmp_path: Path, fault: str
) -> None:
    b = bench(f"at=3 do={fault} {SLOW}")
    b.until_idle()
    b.executor.submit(make_task(tmp_path))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("crash", "job1")


def test_a_death_before_the_first_step_is_told_apart(bench: NewBench, tmp_path: Path) -> None:
    b = bench("at=0 do=kill")
    b.until_idle()
    b.executor.submit(make_task(tmp_path))
    gone = b.until_seen(WorkerGone)
    assert (gone.job_id, gone.stepped) == ("job1", False)


def test_a_kill_by_the_kernel_for_memory_is_told_apart(
    bench: NewBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(f"at=3 do=kill {SLOW}")
    b.until_idle()
    monkeypatch.setattr("nstd.workers.system.oom_kills", lambda: 10**9)
    b.executor.submit(make_task(tmp_path))
    assert b.until_seen(WorkerGone).reason == "oom"


def test_a_silent_worker_is_ended(bench: NewBench, tmp_path: Path) -> None:
    b = bench(f"at=3 do=stall {SLOW}", stall_s=0.5, compile_s=0.5)
    b.until_idle()
    b.executor.submit(make_task(tmp_path, params=LONG))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("stuck", "job1")
    assert any("sign of life" in line for line in b.log)
    b.until_seen(WorkerReady, 2)


def test_a_worker_that_swells_is_ended(bench: NewBench, tmp_path: Path) -> None:
    b = bench(f"at=3 do=hog hog_bytes={400 * 2**20} {SLOW}", max_memory_bytes=300 * 2**20)
    b.until_idle()
    b.executor.submit(make_task(tmp_path, params=LONG))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("memory", "job1")


def test_a_worker_that_never_gets_ready_is_ended(bench: NewBench) -> None:
    b = bench("start_s=3600", start_timeout_s=1.0)
    assert b.until_seen(WorkerGone).reason == "stuck"


def test_a_worker_that_dies_at_its_start_is_started_ever_more_rarely(bench: NewBench) -> None:
    clock = Clock()
    b = bench("start=crash", clock=clock, first_pause_s=1.0, longest_pause_s=60.0)
    for number, pause in enumerate((1.0, 2.0, 4.0), 1):
        assert b.until_seen(WorkerGone, number).reason == "crash"
        clock.now += pause - 0.01
        b.drain()
        assert b.executor.workers()[0].phase == "waiting"
        clock.now += 0.01
        b.drain()
        assert b.executor.workers()[0].phase == "starting"


def test_a_worker_that_cannot_even_be_started_is_tried_again(
    bench: NewBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_args: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("nstd.workers.process._popen", no_more)
        b = bench()
        b.drain()
        assert any("could not be started" in line for line in b.log)
        assert b.executor.workers()[0].phase == "waiting"
    b.until_seen(WorkerReady)


@pytest.mark.parametrize("start", ["weights", "gpu"])
def test_a_worker_that_cannot_load_says_why(bench: NewBench, start: str) -> None:
    b = bench(f"start={start}")
    failed = b.until_seen(WorkerFailed)
    assert (failed.reason, bool(failed.message), bool(failed.remedy)) == (start, True, True)
    assert b.until_seen(WorkerGone).reason == "start"


# --- replacing a worker between jobs -----------------------------------------------------------


def test_a_worker_is_replaced_at_once_after_max_jobs(bench: NewBench, tmp_path: Path) -> None:
    b = bench(max_jobs=2, first_pause_s=3600.0)
    paint(b, make_task(tmp_path, "one"))
    pid = b.pid
    paint(b, make_task(tmp_path, "two"))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("recycle", None)
    paint(b, make_task(tmp_path, "three"))
    assert b.pid != pid


def test_a_worker_that_has_grown_is_replaced_after_its_job_and_not_before(
    bench: NewBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChildProcess, "rss_bytes", lambda _self: 90)
    b = bench(max_memory_bytes=100, first_pause_s=3600.0)
    paint(b, make_task(tmp_path, "one"))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("recycle", None)
    paint(b, make_task(tmp_path, "two"))


def test_replacing_workers_uses_up_no_descriptors(bench: NewBench, tmp_path: Path) -> None:
    b = bench(max_jobs=1)
    b.until_idle()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 4):
        paint(b, make_task(tmp_path, f"job{number}"))
        b.until_seen(WorkerReady, number + 1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert b.executor.workers()[0].restarts == 3


def test_new_settings_replace_a_worker_after_its_job(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW)
    until_stepping(b, make_task(tmp_path))
    settings = b.executor._settings
    rules = Supervision()
    b.executor.reconfigure(settings, rules)
    b.executor.reconfigure(dataclasses.replace(settings, weights="builtin"), rules)
    b.until_seen(JobFinished)
    assert b.until_seen(WorkerGone).reason == "recycle"
    b.until_seen(WorkerReady, 2)
    assert len(b.of(WorkerGone)) == 1


def test_new_rules_hold_for_the_worker_that_paints(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW)
    until_stepping(b, make_task(tmp_path, "long", LONG))
    b.executor.reconfigure(b.executor._settings, Supervision(max_memory_bytes=1))
    gone = b.until_seen(WorkerGone)
    assert (gone.reason, gone.job_id) == ("memory", "long")


def test_workers_follow_the_devices_and_hand_back_what_they_painted(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench(SLOW, devices=("cpu", "gpu:0"))
    b.until_seen(WorkerReady, 2)
    until_stepping(b, make_task(tmp_path, "long", LONG))
    (busy,) = [worker for worker in b.executor.workers() if worker.jobs_held]
    other = "gpu:0" if busy.device == "cpu" else "cpu"
    b.executor.reconfigure(
        b.executor._settings, Supervision(), [other, "gpu:1"], grace_s=DEADLINE_S
    )
    assert b.until_seen(JobHandedBack).job_id == "long"
    assert b.until_seen(WorkerReady, 3).device == "gpu:1"
    b.until(lambda: len(b.executor.workers()) == 2, "end of the old worker")
    assert [worker.device for worker in b.executor.workers()] == [other, "gpu:1"]
    assert len({worker.worker for worker in b.executor.workers()} | {busy.worker}) == 3


# --- cancelling and stopping -------------------------------------------------------------------


def test_a_job_is_cancelled_between_two_steps_and_its_worker_lives(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench(SLOW)
    until_stepping(b, make_task(tmp_path, "long", LONG))
    pid = b.pid
    assert b.executor.cancel("long")
    failed = b.until_seen(JobFailed)
    assert (failed.job_id, failed.reason, failed.retry) == ("long", "cancelled", False)
    paint(b, make_task(tmp_path, "next"))
    assert b.pid == pid


def test_a_job_that_nobody_holds_cannot_be_cancelled(bench: NewBench) -> None:
    assert not bench().executor.cancel("other")


def test_a_cancelled_job_that_does_not_listen_is_ended_with_its_worker(
    bench: NewBench, tmp_path: Path
) -> None:
    acted = tmp_path / "acted"
    b = bench(f"at=3 do=stall once={acted} {SLOW}", cancel_grace_s=0.1)
    until_stepping(b, make_task(tmp_path, params=LONG))
    b.until(acted.exists, "a stall")
    b.executor.cancel("job1")
    assert b.until_seen(JobFailed).reason == "cancelled"
    assert b.until_seen(WorkerGone).job_id is None


def test_a_stop_hands_the_job_back_and_it_goes_on_to_the_same_picture(
    bench: NewBench, tmp_path: Path
) -> None:
    params = dataclasses.replace(PARAMS, iterations=40)
    b = bench(SLOW)
    task = make_task(tmp_path, params=params)
    until_stepping(b, task)
    pid = b.pid
    b.executor.stop(30.0)
    b.drain()
    assert b.of(JobHandedBack) == [JobHandedBack("job1")]
    assert b.of(WorkerGone)[-1].reason == "stop"
    assert not alive(pid)
    assert (Path(task.job_dir) / "checkpoint.npz").exists()
    again = bench()
    resumed = paint(again, task)
    assert again.of(JobProgress)[0].report.step > 0
    assert resumed == paint(again, make_task(tmp_path, "calm", params))


def test_a_stop_ends_a_worker_that_overstays_the_grace_and_hands_its_job_back(
    bench: NewBench, tmp_path: Path
) -> None:
    acted = tmp_path / "acted"
    b = bench(f"at=3 do=stall once={acted} {SLOW}")
    until_stepping(b, make_task(tmp_path, params=LONG))
    b.until(acted.exists, "a stall")
    pid = b.pid
    b.executor.stop(0.1)
    b.drain()
    assert b.of(JobHandedBack) == [JobHandedBack("job1")]
    assert b.of(WorkerGone)[-1].job_id is None
    assert not alive(pid)
    assert [state.phase for state in b.executor.workers()] == ["stopped"]


def test_a_stop_does_not_wait_for_an_engine_that_still_loads(bench: NewBench) -> None:
    b = bench("start_s=3600")
    b.executor.stop(3600.0)
    assert b.executor.stopped()


def test_a_resume_can_be_declined(bench: NewBench, tmp_path: Path) -> None:
    b = bench(SLOW)
    task = make_task(tmp_path, params=dataclasses.replace(PARAMS, iterations=30))
    paint(b, task)  # leaves its last checkpoint
    b.seen.clear()
    paint(b, dataclasses.replace(task, resume=False))
    assert b.of(JobProgress)[0].report.step == 0


def test_the_checkpoint_of_other_inputs_is_refused_with_a_note(
    bench: NewBench, tmp_path: Path
) -> None:
    b = bench()
    task = make_task(tmp_path)
    paint(b, task)
    picture(Path(task.job_dir) / "input" / "waves.png", 3)
    b.seen.clear()
    paint(b, task)
    assert any("other inputs" in note.text for note in b.of(JobNote))
    report = json.loads(Path(b.of(JobFinished)[0].report).read_text())
    assert any("other inputs" in note for note in report["notes"])
