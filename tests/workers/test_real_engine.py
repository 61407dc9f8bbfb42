"""The real engine in a real worker: killed while it steps, it goes on to the identical picture."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest

from nstd.engine.params import PRESETS
from nstd.workers.executor import JobFinished, JobLost, JobNote, JobProgress, WorkerGone
from nstd.workers.local import LocalExecutor
from nstd.workers.patience import Supervision
from nstd.workers.settings import PaintSettings, WorkerSettings
from tests.workers.conftest import Bench, make_task, sha256

PARAMS = dataclasses.replace(PRESETS["tiny"], iterations=40, size=64)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_in_the_middle_does_not_change_a_byte(tmp_path: Path) -> None:
    settings = WorkerSettings(weights="builtin", paint=PaintSettings(checkpoint_s=0.1))
    executor = LocalExecutor(["cpu"], settings, Supervision(first_pause_s=0.01))
    b = Bench(executor, [], deadline_s=300.0)
    executor.start()
    try:
        b.until_idle()
        executor.submit(make_task(tmp_path, "calm", PARAMS))
        calm = b.until_seen(JobFinished)
        b.until_idle()
        task = make_task(tmp_path, "rough", PARAMS)
        executor.submit(task)
        saved = Path(task.job_dir) / "checkpoint.npz"
        b.until(saved.exists, "a checkpoint")
        os.kill(b.pid, signal.SIGKILL)
        assert b.until_seen(WorkerGone).job_id == "rough"
        b.until_idle()
        b.seen = [event for event in b.seen if not isinstance(event, JobProgress)]
        executor.submit(task)
        rough = b.until_seen(JobFinished, 2)
    finally:
        executor.stop(0)
        executor.close()
    assert any("checkpoint" in note.text for note in b.of(JobNote))
    assert b.of(JobProgress)[0].report.step > 0
    assert sha256(rough.picture) == sha256(calm.picture)
    report = json.loads(Path(rough.report).read_text())
    assert report["weights"]["name"] == "builtin"
    assert report["versions"]["tensorflow"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_jobs_share_batches_and_a_kill_loses_none_of_them(tmp_path: Path) -> None:
    paint = PaintSettings(checkpoint_s=0.1)
    settings = WorkerSettings(weights="builtin", batch=3, paint=paint)
    executor = LocalExecutor(["cpu"], settings, Supervision(first_pause_s=0.01))
    b = Bench(executor, [], deadline_s=300.0)
    executor.start()
    params = dataclasses.replace(PARAMS, iterations=400)
    names = ("one", "two", "three")
    try:
        b.until_idle()
        jobs = [
            dataclasses.replace(make_task(tmp_path, name, params), company="kind") for name in names
        ]
        for job in jobs:
            executor.submit(job)
        b.until(
            lambda: all((Path(job.job_dir) / "checkpoint.npz").exists() for job in jobs),
            "checkpoints",
        )
        os.kill(b.pid, signal.SIGKILL)
        assert b.until_seen(WorkerGone).job_id is None
        assert {lost.job_id for lost in b.of(JobLost)} == {*names}
        b.until_idle()
        for job in jobs:
            executor.submit(job)
        b.until_seen(JobFinished, 3)
    finally:
        executor.stop(0)
        executor.close()
    reports = [json.loads(Path(event.report).read_text()) for event in b.of(JobFinished)]
    assert {report["job"] for report in reports} == {*names}
    assert max(report["plan"]["batch"] for report in reports) > 1
    assert all("Goes on from its checkpoint." in report["notes"] for report in reports)
    # rounding depends on the company, and 400 steps make much of it; how good they are stays
    totals = [report["losses"]["total"] for report in reports]
    assert totals == pytest.approx([totals[0]] * 3, rel=0.05)
