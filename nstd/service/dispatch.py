"""Jobs to workers, and what workers say: who is next, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from nstd.engine.progress import StepReport
from nstd.errors import CancelledError, NstdError, StorageError, WorkerLostError, by_reason
from nstd.jobs.job import Job
from nstd.service import retries
from nstd.service.company import Companies
from nstd.service.ending import Endings
from nstd.service.house import House
from nstd.service.logs import job_context, logger
from nstd.workers.executor import (
    Event,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobLost,
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

CHECKPOINT = "checkpoint.npz"
NEXT_STAGE = {"decode": "optimize", "optimize": "encode", "encode": "deliver"}
RECLAIM_S = 10.0
MAX_AHEAD = 64
"""Jobs behind the next one that are looked at for company."""
MAX_HISTORY = 200
"""Points of a sparkline; twice as many are thinned to every second one."""


@dataclass
class Running:
    """What is known of a job that a worker has."""

    job: Job
    since: float
    worker: str = ""
    stage: str = "decode"
    report: StepReport | None = None
    history: list[tuple[int, float]] = field(default_factory=list)
    preview: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    cancelled: bool = False
    death_counted: bool = False


class Dispatch:
    """Hands jobs out by (priority, oldest) and follows them until they end.

    A worker that may have several gets those that can share a batch. The next in the queue comes
    first even so: jobs behind it only fill up a worker that is busy with their like anyway, and
    only until one of that round has ended.
    """

    def __init__(self, house: House, endings: Endings) -> None:
        self._house, self._endings = house, endings
        self._companies = Companies(house)
        self._filled_up_at = -1
        """The ledger's number of changes when everybody had as much company as there was."""
        self.running: dict[str, Running] = {}
        self.facts: dict[str, Mapping[str, Any]] = {}
        """Worker → what its engine says of itself, once it is ready."""
        self.problems: dict[str, NstdError] = {}
        """Worker → why it could not start."""
        self.durations: deque[float] = deque(maxlen=20)
        """Seconds of the latest finished jobs, for estimates."""
        self.ever_ready = False
        self.start_deaths = 0
        """Workers that died without a word before any was ever ready."""
        self._unheeded: list[Event] = []
        self._next_reclaim = float("-inf")

    # --- out ---------------------------------------------------------------------------------

    def hand_out(self, now: float) -> None:
        """Give the next jobs to workers that wait for one."""
        while not self._house.pauses and self._may_take_more():
            job = self._house.ledger.next_job(now)
            if job is None:
                return
            with job_context(job.id):
                task = self._task(job)
                if task is None:  # only a job that fails has none
                    why = NstdError("The job has no specification.", "Drop it again.")
                    self._endings.fail(job, why)
                elif self._house.executor.takes(task):
                    self._start(job, task, now)
                else:
                    self._fill_up(job, now)
                    return

    def _may_take_more(self) -> bool:
        """Tell whether it is worth asking whose turn it is."""
        executor = self._house.executor
        return executor.free_slots() > 0 or (
            self._house.config.worker.batch != 1
            and self._house.ledger.changes != self._filled_up_at
        )

    def _fill_up(self, head: Job, now: float) -> None:
        """Let jobs behind the next one join their like, since that one has to wait anyway.

        Only those that are as urgent: a less urgent one would slow down what it waits for.
        """
        for job in self._house.ledger.next_jobs(now, MAX_AHEAD):
            if job.priority != head.priority:
                break
            task = self._task(job)
            if task and task.company and self._house.executor.takes(task, out_of_turn=True):
                with job_context(job.id):
                    self._start(job, task, now)
        self._filled_up_at = self._house.ledger.changes

    def _task(self, job: Job) -> Task | None:
        if job.spec is None:
            return None
        path = os.path.abspath(self._house.spool.job_dir(job.id))
        return Task(job.id, path, job.spec, company=self._companies.of(job))

    def _start(self, job: Job, task: Task, now: float) -> None:
        job = self._house.ledger.start(job.id)
        self.running[job.id] = Running(job, now)
        self._house.executor.submit(task)
        self._house.metrics.stage("queue", now - job.admitted)
        logger().info("Job started.", name=job.title, style=job.style, attempt=job.attempts)

    def cancel(self, job_id: str) -> bool:
        """Ask the worker that has the job to end it; False when none has it."""
        if running := self.running.get(job_id):
            running.cancelled = True
        return self._house.executor.cancel(job_id)

    def reclaim(self, now: float) -> None:
        """Queue jobs again that the ledger takes for running and no worker has: there are none.

        Unless an error came between the two; nobody would ever end such a job.
        """
        if now < self._next_reclaim:
            return
        self._next_reclaim = now + RECLAIM_S
        held = {job_id for each in self._house.executor.workers() for job_id in each.jobs_held}
        unheeded = {getattr(event, "job_id", None) for event in self._unheeded}
        for job in self._house.ledger.jobs("running"):
            if job.id not in held | unheeded and not self._endings.has(job.id):
                logger().warning("No worker has this job; it is queued again.", job=job.id)
                self.running.pop(job.id, None)
                self._house.ledger.hand_back(job.id)

    def follow_clock(self, now: float) -> None:
        """Let nobody wait for longer than he may because the clock was set back."""
        latest = now + self._house.config.worker.retry_max_s
        for job in self._house.ledger.jobs("deferred"):
            if job.retry_at is not None and job.retry_at > latest:
                self._house.ledger.requeue(job.id, "the clock was set")

    # --- in ----------------------------------------------------------------------------------

    def heed(self, now: float) -> int:
        """Deal with everything that workers have said; returns how much it was.

        Raises StorageError when the ledger could not take it; calling again goes on with it.
        """
        events = [*self._unheeded, *self._house.executor.events()]
        self._unheeded = []
        refused: Exception | None = None
        for event in events:
            with _context(event):
                try:
                    self._heed(event, now)
                except (StorageError, OSError) as error:
                    self._unheeded.append(event)  # the ledger's disk: nothing may get lost by it
                    refused = error
                except Exception:  # noqa: BLE001 - one bad event never stops the house
                    logger().exception("An event could not be dealt with.", kind=str(type(event)))
                    self._abandon(event)
        if refused is not None:
            raise refused
        return len(events)

    def _heed(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912 - one line per kind
        match event:
            case WorkerReady():
                self._ready(event)
            case WorkerFailed():
                self._start_failed(event)
            case WorkerGone():
                self._gone(event, now)
            case JobStarted(job_id=job_id) if job_id in self.running:
                self._started(self.running[job_id], event)
            case JobProgress(job_id=job_id) if job_id in self.running:
                self._progress(self.running[job_id], event)
            case JobStage(job_id=job_id) if job_id in self.running:
                self._stage(self.running[job_id], event)
            case JobNote():
                logger().info(event.text)
            case PreviewReady(job_id=job_id) if job_id in self.running:
                self._preview(self.running[job_id], event)
            case JobFinished():
                self._finished(event)
            case JobFailed():
                self._failed(event, now)
            case JobHandedBack():
                self._handed_back(event)
            case JobLost():
                self._lost(event)
            case _:
                logger().debug("An event of a job that is not running.", kind=type(event).__name__)

    def _abandon(self, event: Event) -> None:
        """Set a job aside whose end we could not deal with: nobody else would end it."""
        if isinstance(event, JobFinished | JobFailed | JobHandedBack | JobLost | WorkerGone):
            running = self.running.pop(event.job_id or "", None)
            if running is not None:
                error = NstdError("The end of the job could not be dealt with.", "See the log.")
                self._endings.fail(running.job, error)

    def _ready(self, event: WorkerReady) -> None:
        self.ever_ready = True
        self.problems.pop(event.worker, None)
        self.facts[event.worker] = event.facts
        logger().info("Worker ready.", worker=event.worker, device=event.device)

    def _start_failed(self, event: WorkerFailed) -> None:
        self.problems[event.worker] = by_reason(event.reason)(event.message, event.remedy)
        logger().error(
            "A worker could not start.",
            worker=event.worker,
            error=event.message,
            remedy=event.remedy,
        )

    def _gone(self, event: WorkerGone, now: float) -> None:
        self.facts.pop(event.worker, None)
        self.start_deaths += not self.ever_ready and event.worker not in self.problems
        if event.reason != "stop":
            self._house.metrics.worker_restarted(event.reason)
            log = logger().info if event.reason == "recycle" else logger().warning
            log("Worker gone.", worker=event.worker, reason=event.reason, detail=event.detail)
        running = self.running.get(event.job_id or "")
        if running is None:
            return
        job = running.job
        if event.stepped and not running.death_counted:
            self._house.ledger.worker_died(job.id)
            running.death_counted = True
        deaths = self._house.ledger.get(job.id).worker_deaths
        self._apply(job, retries.after_worker_death(job, deaths, event, self._house.retries, now))
        del self.running[job.id]

    def _started(self, running: Running, event: JobStarted) -> None:
        running.worker = event.worker
        checkpoint = os.path.join(self._house.spool.job_dir(event.job_id), CHECKPOINT)
        resumed = os.path.exists(checkpoint)
        self._house.metrics.job_started(event.job_id, event.worker, resumed=resumed)

    def _progress(self, running: Running, event: JobProgress) -> None:
        report = event.report
        running.report, running.stage = report, "optimize"
        self._house.metrics.progress(event.job_id, event.worker, report)
        if report.losses is not None:
            running.history.append((report.step, report.losses.total))
            if len(running.history) > 2 * MAX_HISTORY:
                running.history = running.history[::2]

    def _stage(self, running: Running, event: JobStage) -> None:
        running.seconds[event.stage] = event.seconds
        running.stage = NEXT_STAGE.get(event.stage, running.stage)
        self._house.metrics.stage(event.stage, event.seconds)

    def _preview(self, running: Running, event: PreviewReady) -> None:
        spec = running.job.spec
        if not self._house.config.outbox.preview or spec is None:
            return
        try:
            running.preview = self._house.outbox.show_preview(
                running.job.id, spec.result_stem, event.path
            )
        except (StorageError, OSError) as error:  # a preview is worth no job
            logger().debug("No preview could be shown.", error=str(error))

    def _finished(self, event: JobFinished) -> None:
        running = self.running.get(event.job_id)
        if running is not None:
            self.durations.append(self._house.now() - running.since)
        cache = event.facts.get("style_cache", {})
        self._house.metrics.style_cache(
            hits=int(cache.get("hits", 0)), misses=int(cache.get("misses", 0))
        )
        self._endings.begin_delivery(event.job_id, running.seconds if running else {})
        self.running.pop(event.job_id, None)

    def _failed(self, event: JobFailed, now: float) -> None:
        running = self.running.get(event.job_id)
        job = self._house.ledger.get(event.job_id)
        error = by_reason(event.reason)(event.message, event.remedy)
        if running is not None and running.cancelled:
            error = CancelledError("The job was cancelled.", "Drop it again, or `nstd retry`.")
        self._apply(job, retries.after_error(job, error, self._house.retries, now))
        self.running.pop(event.job_id, None)

    def _handed_back(self, event: JobHandedBack) -> None:
        self._house.ledger.hand_back(event.job_id)
        self.running.pop(event.job_id, None)
        logger().info("Job handed back; it goes on later from its checkpoint.")

    def _lost(self, event: JobLost) -> None:
        """Queue a job again whose worker died with several: having been tried, it runs alone."""
        if event.job_id not in self.running:
            return
        self._house.ledger.requeue(event.job_id, "its worker died with several jobs")
        self.running.pop(event.job_id)
        self._house.metrics.job_retried(event.job_id, WorkerLostError.reason)
        logger().warning(
            "The worker died with several jobs; this one is tried again, alone.",
            worker=event.worker, reason=event.reason,
        )  # fmt: skip

    def _apply(self, job: Job, verdict: retries.Verdict) -> None:
        match verdict:
            case retries.Later(until, error):
                self._house.ledger.defer(job.id, until, error)
                self._house.metrics.job_retried(job.id, error.reason)
                logger().warning("Job deferred.", error=str(error), until=until)
            case retries.Never(error):
                self._endings.fail(job, error)


def _context(event: Event) -> AbstractContextManager[None]:
    """Bind the job's id to what is logged about an event, where it is about a job."""
    job_id = getattr(event, "job_id", None)
    return job_context(job_id) if job_id else contextlib.nullcontext()
