"""The jobs that one worker process has: how far each is, how long it has been silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nstd.errors import CancelledError
from nstd.workers.executor import Event, JobFailed, JobHandedBack, JobLost, WorkerGone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nstd.workers.executor import GoneReason, Task
    from nstd.workers.patience import Patience


@dataclass
class Held:
    """A job that the child has."""

    task: Task
    patience: Patience
    start: int | None = 0
    """The step at which this process took over; None: the first report after a resume tells."""
    stepped: bool = False
    cancel_by: float | None = None

    def note_step(self, step: int) -> None:
        """Note how far it is."""
        if self.start is None:
            self.start = step
        self.stepped = self.stepped or step > self.start


@dataclass
class Hands:
    """What one child may hold, and what it holds."""

    places: int = 1
    """Jobs at a time."""
    pixels: int = 0
    """What all of them together may have in its memory; 0: nobody knows."""
    jobs: dict[str, Held] = field(default_factory=dict)
    gathering: bool = True
    """No job has ended since the hands were empty: others may still come out of turn."""

    def __bool__(self) -> bool:
        return bool(self.jobs)

    def __iter__(self) -> Iterator[Held]:
        return iter(self.jobs.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """The jobs, in the order in which they came."""
        return tuple(self.jobs)

    def joins(self, task: Task, *, out_of_turn: bool) -> bool:
        """Tell whether the task may come to the jobs that are there."""
        return (
            bool(task.company)
            and len(self.jobs) < self.places
            and all(held.task.company == task.company for held in self)
            and (self.gathering or not out_of_turn)
            and (not self.pixels or (len(self.jobs) + 1) * task.pixels <= self.pixels)
        )

    def take(self, held: Held) -> None:
        """Take a job."""
        self.gathering = self.gathering or not self.jobs
        self.jobs[held.task.job_id] = held

    def let_go(self, job_id: str) -> None:
        """Let go of a job that has ended."""
        self.jobs.pop(job_id, None)
        self.gathering = not self.jobs

    def drop(self, worker: str, reason: GoneReason, *, detail: str) -> list[Event]:
        """Say what becomes of each job now that the process is dead, and that it is.

        One that was alone may have been the reason. Of several nobody can tell which it was, so
        none is blamed.
        """
        jobs, self.jobs, self.gathering = list(self), {}, True
        events: list[Event] = []
        blamed: Held | None = None
        for held in jobs:
            job_id = held.task.job_id
            if held.cancel_by is not None:
                why = CancelledError("The job was cancelled.")
                events.append(JobFailed(job_id, why.reason, why.message, why.remedy, why.retry))
            elif reason == "stop":
                events.append(JobHandedBack(job_id))  # its last checkpoint counts
            elif len(jobs) > 1:
                events.append(JobLost(job_id, worker, reason))
            else:
                blamed = held
        gone = WorkerGone(
            worker,
            reason,
            job_id=blamed.task.job_id if blamed else None,
            stepped=blamed is not None and blamed.stepped,
            detail=detail,
        )
        return [*events, gone]
