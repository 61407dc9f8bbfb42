"""Painting on this machine: one supervised child process per device."""

from __future__ import annotations

import contextlib
import itertools
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
        self._leaving: list[SupervisedWorker] = []
        """Workers of devices that are not painted on any more, until they have ended."""
        self._numbers = itertools.count()

    def start(self) -> None:
        """Start a child for each device."""
        now = self._clock()
        self._workers = [self._worker(device, now) for device in self._devices]
        self.poll(now)

    def _worker(self, device: str, now: float) -> SupervisedWorker:
        name = f"w{next(self._numbers)}"
        return SupervisedWorker(
            name, device, rules=self._rules, spawn=self._spawn, log=self._log, now=now
        )

    @property
    def _all(self) -> list[SupervisedWorker]:
        return [*self._workers, *self._leaving]

    def submit(self, task: Task) -> None:
        """Hand one task to the worker that has been idle longest, or to one that it may join."""
        takers = [worker for worker in self._workers if worker.takes(task)]
        if not takers:
            raise RuntimeError("no worker is free")

        def turn(worker: SupervisedWorker) -> tuple[int, float]:
            state = worker.state()
            return len(state.jobs_held), state.since

        min(takers, key=turn).submit(task, self._clock())

    def takes(self, task: Task, *, out_of_turn: bool = False) -> bool:
        """Tell whether a worker is idle, or has jobs of the same company and room for one more."""
        return any(worker.takes(task, out_of_turn=out_of_turn) for worker in self._workers)

    def free_slots(self) -> int:
        """Return how many workers wait for a task."""
        return sum(worker.free for worker in self._workers)

    def poll(self, now: float) -> None:
        """Read what children say, judge their silence, start what is to be started."""
        for worker in self._all:
            self._events += worker.tick(now)
        self._leaving = [worker for worker in self._leaving if not worker.stopped]

    def events(self) -> list[Event]:
        """Poll, and return what has happened since the last call."""
        self.poll(self._clock())
        events, self._events = self._events, []
        return events

    def cancel(self, job_id: str) -> bool:
        """Ask for the job's end between two steps; False when no worker holds it."""
        holders = [worker for worker in self._all if worker.holds(job_id)]
        for worker in holders:
            worker.cancel(job_id, self._clock())
        return bool(holders)

    def workers(self) -> list[WorkerState]:
        """Return every worker as it is now."""
        return [worker.state() for worker in self._all]

    def fileno(self) -> int:
        """Return a descriptor that is readable when a child has something to say."""
        return self._poller.fileno()

    def reconfigure(
        self,
        settings: WorkerSettings,
        rules: Supervision,
        devices: Sequence[str] | None = None,
        *,
        grace_s: float = 0.0,
    ) -> None:
        """Follow new rules at once; replace children whose settings are old after their job.

        Workers of devices that are not among ``devices`` (None: as before) hand their job back
        within the grace, and new ones get workers.
        """
        self._rules = rules
        for worker in self._all:
            worker.follow(rules)
            if settings != self._settings:
                worker.retire()
        self._settings = settings
        if devices is not None:
            self._move(devices, grace_s)

    def _move(self, devices: Sequence[str], grace_s: float) -> None:
        now = self._clock()
        gone = [worker for worker in self._workers if worker.device not in devices]
        for worker in gone:
            worker.stop(now, grace_s)
        self._leaving += gone
        stay = {worker.device: worker for worker in self._workers if worker not in gone}
        self._workers = [stay.get(device) or self._worker(device, now) for device in devices]
        self._devices = tuple(devices)

    def begin_stop(self, grace_s: float) -> None:
        """Ask every worker to hand back and end; ``poll`` ends those that overstay the grace."""
        now = self._clock()
        for worker in self._all:
            worker.stop(now, grace_s)

    def stopped(self) -> bool:
        """Tell whether every worker has ended for good."""
        return all(worker.stopped for worker in self._all)

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
