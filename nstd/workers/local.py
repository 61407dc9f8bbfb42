"""Painting on this machine: one supervised child process per device."""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

from nstd.workers.patience import Supervision
from nstd.workers.process import ChildProcess, watch
from nstd.workers.settings import WorkerSettings
from nstd.workers.supervised import SupervisedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nstd.workers.executor import Event, Task, WorkerState

LONGEST_WAIT_S = 0.25


def _no_log(_worker: str, _line: str) -> None:
    """Drop what the children log."""


class LocalExecutor:
    """An ``Executor`` without threads: everything happens in ``poll``, which never waits.

    Use it from the process' main thread: the children are bound to the life of the thread that
    starts them (``system.die_with_parent``).
    """

    def __init__(
        self,
        devices: Sequence[str],
        settings: WorkerSettings | None = None,
        rules: Supervision | None = None,
        *,
        log: Callable[[str, str], None] = _no_log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare one worker per device; ``log`` gets (worker, line) of what children print."""
        self._settings, self._rules = settings or WorkerSettings(), rules or Supervision()
        self._log, self._clock = log, clock
        self._poller = select.epoll()
        self._events: list[Event] = []
        self._devices = tuple(devices)
        self._workers: list[SupervisedWorker] = []

    def start(self) -> None:
        """Start a child for each device."""
        now = self._clock()
        self._workers = [
            SupervisedWorker(
                f"w{number}", device, rules=self._rules, spawn=self._spawn, log=self._log, now=now
            )
            for number, device in enumerate(self._devices)
        ]
        self.poll(now)

    def submit(self, task: Task) -> None:
        """Hand one task to the worker that has been idle longest."""
        idle = [worker for worker in self._workers if worker.free]
        if not idle:
            raise RuntimeError("no worker is free")
        min(idle, key=lambda worker: worker.state().since).submit(task, self._clock())

    def free_slots(self) -> int:
        """Return how many workers wait for a task."""
        return sum(worker.free for worker in self._workers)

    def poll(self, now: float) -> None:
        """Read what children say, judge their silence, start what is to be started."""
        for worker in self._workers:
            self._events += worker.tick(now)

    def events(self) -> list[Event]:
        """Poll, and return what has happened since the last call."""
        self.poll(self._clock())
        events, self._events = self._events, []
        return events

    def cancel(self, job_id: str) -> bool:
        """Ask for the job's end between two steps; False when no worker holds it."""
        holders = [worker for worker in self._workers if worker.holds(job_id)]
        for worker in holders:
            worker.cancel(self._clock())
        return bool(holders)

    def workers(self) -> list[WorkerState]:
        """Return every worker as it is now."""
        return [worker.state() for worker in self._workers]

    def fileno(self) -> int:
        """Return a descriptor that is readable when a child has something to say."""
        return self._poller.fileno()

    def reconfigure(self, settings: WorkerSettings) -> None:
        """Give later children new settings, and replace each present one after its job."""
        if settings == self._settings:
            return
        self._settings = settings
        for worker in self._workers:
            worker.retire()

    def begin_stop(self, grace_s: float) -> None:
        """Ask every worker to hand back and end; ``poll`` ends those that overstay the grace."""
        now = self._clock()
        for worker in self._workers:
            worker.stop(now, grace_s)

    def stopped(self) -> bool:
        """Tell whether every worker has ended for good."""
        return all(worker.stopped for worker in self._workers)

    def stop(self, grace_s: float) -> None:
        """Stop every worker and wait for it, at most the grace; ``events`` has what they said."""
        self.begin_stop(grace_s)
        self.poll(self._clock())
        while not self.stopped():
            self._poller.poll(LONGEST_WAIT_S)
            self.poll(self._clock())

    def close(self) -> None:
        """Let go of the poller; after ``stop``."""
        self._poller.close()

    def _spawn(self, worker: str, device: str) -> ChildProcess:
        child = ChildProcess(worker, device, self._settings)
        with contextlib.suppress(FileExistsError):
            watch(self._poller, child)
        return child
