"""Kill the real engine while it steps, and hold its pictures to those of undisturbed runs.

``python -m tests.crash.steps KILLS [SEED]``: a worker with TensorFlow and the built-in features is
killed again and again in the middle of one job, at random instants after its first step, until the
job ends; then comes the next job. On a CPU every picture must be the undisturbed run's, bit for
bit. NSTD_MINUTES bounds the time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from nstd.engine.params import PRESETS, StyleParams
from nstd.jobs import publish
from nstd.workers.executor import JobFinished, JobProgress, Task, WorkerGone
from nstd.workers.local import LocalExecutor
from nstd.workers.patience import Supervision
from nstd.workers.settings import PaintSettings, WorkerSettings
from tests.workers.conftest import Bench, make_task, sha256

LONGEST_S = 1.5
"""A kill comes so long after a first step, at most."""
DEADLINE_S = 300.0


def _like(preset: str, **changes: object) -> StyleParams:
    return dataclasses.replace(PRESETS[preset], **changes)  # type: ignore[arg-type]


JOBS = {
    "L-BFGS over two levels": _like("tiny", iterations=400, size=96),
    "Adam with its average": _like("tiny", iterations=400, size=96, optimizer="adam"),
    "from noise, with a bleed": _like("tiny", iterations=300, size=80, init="noise", bleed=0.1),
}


@dataclass
class Score:
    """What was done and what was found."""

    kills: int = 0
    pictures: int = 0
    problems: list[str] = field(default_factory=list)


class Struck:
    """One worker for all jobs: killed, started again by its executor, given the job again."""

    def __init__(self, seed: int) -> None:
        settings = WorkerSettings(weights="builtin", paint=PaintSettings(checkpoint_s=0.05))
        rules = Supervision(first_pause_s=0.01, longest_pause_s=0.01)
        self.executor = LocalExecutor(["cpu"], settings, rules)
        self.bench = Bench(self.executor, [], deadline_s=DEADLINE_S)
        self.random = random.Random(seed)
        self.executor.start()

    def close(self) -> None:
        self.executor.stop(0)
        self.executor.close()

    def calm(self, task: Task) -> JobFinished:
        self._submit(task)
        return self.bench.until_seen(JobFinished)

    def _submit(self, task: Task) -> None:
        self.bench.until_idle()
        self.bench.seen.clear()
        self.executor.submit(task)

    def rough(self, task: Task, score: Score, kills: int) -> JobFinished:
        """Kill the worker while it steps until the job ends in spite of it."""
        while True:
            self._submit(task)
            self.bench.until(self._has_stepped, "a step")
            if score.kills < kills:
                self._wait(self.random.uniform(0, LONGEST_S))
            if score.kills >= kills or self.bench.of(JobFinished):
                return self.bench.until_seen(JobFinished)
            os.kill(self.bench.pid, signal.SIGKILL)
            gone = self.bench.until_seen(WorkerGone)
            if self.bench.of(JobFinished):
                return self.bench.until_seen(JobFinished)
            score.kills += 1
            if gone.job_id != task.job_id:
                score.problems.append(f"{task.job_id}: lost by the dead worker")

    def _has_stepped(self) -> bool:
        steps = [each.report.step for each in self.bench.of(JobProgress)]
        return bool(steps and steps[-1] > steps[0]) or bool(self.bench.of(JobFinished))

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.bench.until(lambda: time.monotonic() >= end, "the end of a pause")


def strike(kills: int, seed: int, minutes: float) -> Score:
    """Kill as often as asked for, job after job, or until the time is over."""
    score, end = Score(), time.monotonic() + 60 * minutes
    worker = Struck(seed)
    with tempfile.TemporaryDirectory(prefix="nstd-steps-") as folder:
        try:
            calm = {
                name: worker.calm(make_task(Path(folder), f"calm {number}", params))
                for number, (name, params) in enumerate(JOBS.items())
            }
            while score.kills < kills and time.monotonic() < end:
                name = list(JOBS)[score.pictures % len(JOBS)]
                task = make_task(Path(folder), f"rough {score.pictures}", JOBS[name])
                _compare(name, worker.rough(task, score, kills), calm[name], score)
                if left := list(Path(task.job_dir).rglob(publish.temporary_name()[:6] + "*")):
                    score.problems.append(f"{name}: left over {left}")
                score.pictures += 1
        finally:
            worker.close()
    return score


def _compare(name: str, rough: JobFinished, calm: JobFinished, score: Score) -> None:
    if sha256(rough.picture) != sha256(calm.picture):
        score.problems.append(f"{name}: another picture than undisturbed")
    one, other = (json.loads(Path(each.report).read_text()) for each in (rough, calm))
    if one["losses"] != other["losses"]:
        score.problems.append(f"{name}: other losses than undisturbed")


def main() -> int:
    """Read the command line, strike, and say what was found."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    score = strike(kills, seed, float(os.environ.get("NSTD_MINUTES", "60")))
    for line in score.problems:
        print(line)  # noqa: T201 - a command
    verdict = "see above" if score.problems else "each bit-identical to its undisturbed run"
    print(  # noqa: T201 - a command
        f"{score.kills} kills of the real engine while it stepped, {score.pictures} pictures: "
        f"{verdict} ({(time.monotonic() - began) / 60:.0f} min)"
    )
    return 1 if score.problems else 0


if __name__ == "__main__":
    sys.exit(main())
