"""The real engine in a real worker: killed while it steps, it goes on to the identical picture."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest

from nstd.engine.params import PRESETS
from nstd.workers.executor import JobFinished, JobNote, JobProgress, WorkerGone
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
