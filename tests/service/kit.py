"""A daemon for tests: real layers on a temporary root, a clock in hand, and pretended workers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from nstd.engine.progress import Losses, StepReport
from nstd.jobs.job import Job
from nstd.service import config as config_module
from nstd.service.clock import SteadyClock
from nstd.service.config import Config
from nstd.service.daemon import Daemon
from nstd.workers.executor import (
    Event,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobLost,
    JobProgress,
    JobStage,
    JobStarted,
    Task,
    WorkerGone,
    WorkerReady,
    WorkerState,
)
from nstd.workers.held import Hands, Held
from nstd.workers.patience import Patience, Supervision

DEADLINE_S = 120.0
SETTLE_S = 2.0
PICTURE = b"\xff\xd8 a painted picture \xff\xd9"
FACTS = {"device": "cpu", "weights": {"name": "pretended", "sha256": "0" * 64}}


class PretendedWorkers:
    """An ``Executor`` that paints nothing: tests say what its workers do."""

    def __init__(self, slots: int = 1, places: int = 1) -> None:
        self.slots = slots
        self.hands = Hands(places=places)
        """Of the only worker, where one may have several tasks."""
        self.tasks: dict[str, Task] = {}
        self.history: list[str] = []
        self.cancelled: list[str] = []
        self.stopped = False
        self._events: list[Event] = []
        self._read, self._write = os.pipe()

    # --- the protocol ------------------------------------------------------------------------

    def start(self) -> None:
        self._events += [WorkerReady(f"w{i}", "cpu", FACTS) for i in range(self.slots)]

    def submit(self, task: Task) -> None:
        assert self.takes(task)
        self.tasks[task.job_id] = task
        self.hands.take(Held(task, Patience(Supervision(), 0.0)))
        self.history.append(task.job_id)
        self._events.append(JobStarted(task.job_id, "w0", "cpu"))

    def free_slots(self) -> int:
        return 0 if self.stopped else max(0, self.slots - len(self.tasks))

    def takes(self, task: Task, *, out_of_turn: bool = False) -> bool:
        joins = not self.stopped and self.hands.joins(task, out_of_turn=out_of_turn)
        return self.free_slots() > 0 or joins

    def events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def cancel(self, job_id: str) -> bool:
        if job_id not in self.tasks:
            return False
        self.cancelled.append(job_id)
        return True

    def workers(self) -> list[WorkerState]:
        held: list[tuple[str, ...]]
        held = [(job_id,) for job_id in self.tasks] if self.slots > 1 else [tuple(self.tasks)]
        held += [()] * self.slots
        return [
            WorkerState(f"w{i}", "cpu", "busy" if held[i] else "idle", 1, held[i], 0, 0, 0, 0, 0)
            for i in range(self.slots)
        ]

    def fileno(self) -> int:
        return self._read

    def stop(self, grace_s: float) -> None:
        self.stopped = True
        self._events += [JobHandedBack(job_id) for job_id in self.tasks]
        for job_id in list(self.tasks):
            self._let_go(job_id)

    # --- what tests say ----------------------------------------------------------------------

    def say(self, event: Event) -> None:
        self._events.append(event)

    def _let_go(self, job_id: str) -> Task:
        self.hands.let_go(job_id)
        return self.tasks.pop(job_id)

    def step(self, job_id: str, step: int = 1, steps: int = 10) -> None:
        losses = Losses(1.0 / step, 0.5 / step, 0.5 / step, 0.0)
        report = StepReport(step, steps, 0, 1, 48, 64, losses, 0.1 * step, 1.0, 3072 * step)
        self.say(JobProgress(job_id, "w0", report))

    def finish(self, job_id: str) -> None:
        task = self._let_go(job_id)
        result = Path(task.job_dir) / "result"
        result.mkdir(exist_ok=True)
        losses = {"total": 1.0, "content": 0.5, "style": 0.5, "tv": 0.0}
        (result / "report.json").write_text(json.dumps({"job": job_id, "losses": losses}))
        (result / "picture.jpg").write_bytes(PICTURE + job_id.encode())
        for stage in ("decode", "optimize", "encode"):
            self.say(JobStage(job_id, stage, 0.5))
        paths = str(result / "picture.jpg"), str(result / "report.json")
        self.say(JobFinished(job_id, *paths, {}))

    def fail(self, job_id: str, reason: str, *, retry: bool) -> None:
        self._let_go(job_id)
        self.say(JobFailed(job_id, reason, f"It failed: {reason}.", "Do something.", retry))

    def die(self, job_id: str, *, stepped: bool = True) -> None:
        self._let_go(job_id)
        self.say(WorkerGone("w0", "crash", job_id, stepped, "signal SIGSEGV"))

    def die_with_all(self) -> None:
        """End the worker under several jobs."""
        for job_id in list(self.tasks):
            self._let_go(job_id)
            self.say(JobLost(job_id, "w0", "crash"))
        self.say(WorkerGone("w0", "crash", None, False, "signal SIGSEGV"))  # noqa: FBT003


class Bench:
    """A daemon under test, its folders, and the hand on its clock."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.at = 1_000_000.0
        self.places = settings.pop("places", 1)
        self.settings = settings
        for name in ("inbox", "styles"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.executor = PretendedWorkers(places=self.places)
        self.daemon = self._make()

    def config(self) -> Config:
        overrides = {"http.enabled": False, "inbox.polling": "always", **self.settings}
        return config_module.load(root=self.root, overrides=overrides)

    def _make(self) -> Daemon:
        from nstd.service import startup

        config = self.config()
        startup.make_folders(config)
        clock = SteadyClock(lambda: self.at, lambda: self.at)
        daemon = Daemon(config, executor=self.executor, reload=self.config, clock=clock)
        try:
            daemon.start()
        except BaseException:
            daemon.house.ledger.close()
            daemon.wake.close()
            raise
        return daemon

    def restart(self, *, crash: bool = False) -> None:
        """Begin anew on the same folders, as after a stop or a kill."""
        if crash:
            self.daemon.house.ledger.close()
            with contextlib.suppress(OSError):  # dead already, in the middle of a start
                self.daemon.wake.close()
        else:
            self.stop()
        self.executor = PretendedWorkers(places=self.places)
        self.daemon = self._make()

    def stop(self) -> None:
        self.daemon.stop()
        self.daemon.wake.close()

    def tick(self, seconds: float = 0.0) -> None:
        self.at += seconds
        self.daemon.tick(self.at)

    def settle(self) -> None:
        """Let everything in the inbox settle, be admitted and handed out."""
        for seconds in (1.0, SETTLE_S, 1.0):
            self.daemon.watcher.hint()
            self.tick(seconds)

    # --- files -------------------------------------------------------------------------------

    def style(self, name: str = "starry") -> None:
        picture(self.root / "styles" / f"{name}.jpg")

    def drop(self, name: str) -> Path:
        path = self.root / "inbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(path)
        return path

    def listing(self, folder: str) -> list[str]:
        top = self.root / folder
        paths = (path for path in top.rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(str(path.relative_to(top)) for path in paths)

    def outbox(self) -> list[str]:
        return [name for name in self.listing("outbox") if name != "status.html"]

    # --- jobs --------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        ledger = self.daemon.house.ledger
        return sorted([*ledger.unfinished(), *ledger.recent(1000)], key=lambda job: job.id)

    def job(self) -> Job:
        (job,) = self.jobs()
        return job

    def paint(self, limit: int = 100) -> None:
        """Let the pretended workers finish everything that comes."""
        for _ in range(limit):
            for job_id in list(self.executor.tasks):
                self.executor.finish(job_id)
            self.tick(1.0)
            if not self.executor.tasks and not self.daemon.house.ledger.unfinished():
                return


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    """Write a small photograph-like file."""
    image = Image.effect_noise(size, 60).convert("RGB")
    kind = {".jpg": "JPEG", ".png": "PNG"}.get(path.suffix.lower(), "JPEG")
    image.save(path, kind)


def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def refusing(code: int, *names: str) -> Iterator[None]:
    """Fail every file-system call of these names (none: all of them) with an error."""
    from nstd.jobs import publish

    before = publish.hook

    def hook(name: str) -> None:
        if not names or name in names:
            raise OSError(code, os.strerror(code), name)

    publish.hook = hook
    try:
        yield
    finally:
        publish.hook = before
