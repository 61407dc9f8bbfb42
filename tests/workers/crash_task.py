"""Paint one task again and again, each time with another file-system call that goes wrong.

Run as ``python -m tests.workers.crash_task FOLDER [ERRNO]``: without an error the process that
paints is killed just before its n-th call, for every n; with one (``ENOSPC``) the call fails
instead. After each, what lies in the job folder is checked, and the job is painted to its end.
Prints one line of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from nstd.engine.progress import Checkpoint
from nstd.jobs import publish
from nstd.photo.decode import decode
from nstd.workers import decode_child, keeper, task
from nstd.workers.executor import Event, JobFailed, JobFinished, Task
from nstd.workers.settings import PaintSettings
from nstd.workers.standin import Faults, Standin
from tests.workers.conftest import make_task, sha256


def decode_here(path: str, limits: Any, *, max_side: int, name: str, **_limits: Any) -> Any:
    return decode(Path(path).read_bytes(), limits=limits, max_side=max_side, name=name)


def run(job: Task) -> Event:
    """Paint and return the last event."""
    events: list[Event] = []
    post = task.Post("w0", "cpu", events.append, events.append)
    settings = PaintSettings(checkpoint_s=0.0, previews=False)
    task.run_task(job, Standin("cpu", Faults()), settings, post=post, control=task.Control())
    return events[-1]


def struck(job: Task, number: int, code: int | None) -> str:
    """Paint in a child of its own whose ``number``-th call goes wrong; return how it ended."""
    child = os.fork()
    if child == 0:
        publish.arm(number, code)
        end = run(job)
        os._exit(
            2 if isinstance(end, JobFailed) and end.retry else not isinstance(end, JobFinished)
        )
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "done", 2: "retry"}.get(os.WEXITSTATUS(status), "failed")


def torn(job: Task, whole: str) -> list[str]:
    """Return what is visible in the job folder and not whole."""
    found = []
    picture = Path(job.job_dir) / "result" / "picture.png"
    report = Path(job.job_dir) / "result" / "report.json"
    checkpoint = Path(job.job_dir) / keeper.CHECKPOINT
    if picture.exists() and sha256(picture) != whole:
        found.append("picture")
    if picture.exists() and not report.exists():
        found.append("a picture before its report")
    if report.exists() and "picture" not in json.loads(report.read_text()):
        found.append("report")
    if checkpoint.exists():
        Checkpoint.read(str(checkpoint))
    return found


def leftovers(job: Task) -> list[str]:
    return [str(path) for path in Path(job.job_dir).rglob(".nstd-*")]


def main(folder: Path, code: int | None) -> dict[str, Any]:
    """Strike every call in turn until a run passes untouched."""
    decode_child.decode_limited = decode_here  # type: ignore[assignment]
    keeper.MAX_SHARE = float("inf")  # a checkpoint at every step
    calm = run(make_task(folder, "calm"))
    assert isinstance(calm, JobFinished)
    whole = sha256(calm.picture)
    count: dict[str, int] = {"killed": 0, "done": 0, "retry": 0, "failed": 0}
    bad: list[str] = []
    for number in range(1, 1000):
        before = dict(count)
        job = make_task(folder, f"job{number}")
        count[struck(job, number, code)] += 1
        bad += torn(job, whole)
        if code is not None:
            bad += leftovers(job)
        if code is None and count["done"]:
            break
        end = run(job)
        same = isinstance(end, JobFinished) and sha256(end.picture) == whole
        bad += [] if same else [f"call {number}: {end}"]
        bad += leftovers(job)
        if code is not None and count["done"] > before["done"] and number > LAST_CALL:
            break
    return {**count, "bad": bad}


LAST_CALL = 60
"""More than a run makes; errors in checkpoints do not end a run, so 'done' is no sign."""

if __name__ == "__main__":
    which = getattr(errno, sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(main(Path(sys.argv[1]), which)))  # noqa: T201 - a command
