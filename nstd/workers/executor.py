"""What the daemon knows of those who paint: tasks go down, events come up (no TensorFlow)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nstd.engine.progress import StepReport

if TYPE_CHECKING:
    from nstd.jobs.spec import JobSpec

GoneReason = Literal["crash", "oom", "stuck", "recycle", "memory", "device", "start", "stop"]

RESTART_REASONS: tuple[GoneReason, ...] = (
    "crash",  # the process ended by itself: a signal, an exit, a bug in native code
    "oom",  # the kernel ended it for lack of memory
    "stuck",  # no sign of life for too long; ended by us
    "recycle",  # it had painted ``max_jobs``, or its memory had grown; no job was running
    "memory",  # more memory than ``max_memory_bytes`` during a job; ended by us
    "device",  # it reported a dead device, and gave itself up
    "start",  # it could not load weights or find its device; see ``WorkerFailed``
)
"""Values of the ``reason`` label of ``nstd_worker_restarts_total``; ``stop`` is no restart."""

WorkerPhase = Literal["starting", "idle", "busy", "waiting", "stopped"]
"""``waiting``: ended, and started anew after a pause; values of ``nstd_workers{state}``."""

WORKER_PHASES: tuple[WorkerPhase, ...] = ("starting", "idle", "busy", "waiting", "stopped")


@dataclass(frozen=True)
class Task:
    """One job for a worker; everything it needs lies in ``job_dir``."""

    job_id: str
    job_dir: str
    """Absolute path of ``spool/<job id>``."""
    spec: JobSpec
    resume: bool = True
    """Go on from ``checkpoint.npz`` where it is this job's; False starts anew."""
    company: str = ""
    """Tasks of equal company may share a worker, as one batch; empty: has one to itself."""

    @property
    def pixels(self) -> int:
        """Pixels that are painted at most: a square of its size, and a bleed around it."""
        return int((1.04 * self.spec.params.size) ** 2)


@dataclass(frozen=True)
class WorkerState:
    """One worker as the status page shows it."""

    worker: str
    """A short stable name (``w0``), which is also the metrics label."""
    device: str
    phase: WorkerPhase
    pid: int | None
    jobs_held: tuple[str, ...]
    """The jobs that it has; more than one where they may share a batch."""
    since: float
    """When the phase began, on the executor's (monotonic) clock."""
    last_sign: float
    """The last message of any kind, on the same clock."""
    jobs: int
    """Jobs that this process has ended; a restarted worker begins at 0."""
    rss_bytes: int
    restarts: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What ``Stylizer.facts`` said: device, weights with sha256, versions."""


@dataclass(frozen=True)
class Event:
    """Base of everything that an executor reports."""


@dataclass(frozen=True)
class WorkerReady(Event):
    """A worker has loaded its weights and waits for tasks."""

    worker: str
    device: str
    facts: Mapping[str, Any]
    pixels: int = 0
    """Pixels that the pictures of a batch may have altogether; 0: nobody knows."""


@dataclass(frozen=True)
class WorkerFailed(Event):
    """A worker could not start, and says why; a ``WorkerGone`` (reason ``start``) follows."""

    worker: str
    device: str
    reason: str
    """Of the error tree: ``errors.by_reason`` gives class and exit code."""
    message: str
    remedy: str
    retry: bool


@dataclass(frozen=True)
class WorkerGone(Event):
    """A worker process has ended; the executor starts another by itself, after a pause."""

    worker: str
    reason: GoneReason
    job_id: str | None
    """The only job it held, which the daemon now retries or fails by rule."""
    stepped: bool
    """Whether that job had made an optimizer step in this worker: only then the death counts."""
    detail: str = ""
    """For the log: signal or exit status, and what was measured."""


@dataclass(frozen=True)
class JobStarted(Event):
    """A worker has taken the job up."""

    job_id: str
    worker: str
    device: str


@dataclass(frozen=True)
class JobProgress(Event):
    """One look at the running optimization, at most four times a second."""

    job_id: str
    worker: str
    report: StepReport


@dataclass(frozen=True)
class JobStage(Event):
    """A stage has ended: ``decode``, ``optimize`` or ``encode``."""

    job_id: str
    stage: str
    seconds: float


@dataclass(frozen=True)
class JobNote(Event):
    """Something worth a line in the log: a checkpoint refused, a resume, a disk that is full."""

    job_id: str
    text: str


@dataclass(frozen=True)
class PreviewReady(Event):
    """A newer preview lies at ``path`` (a JPEG, complete, replaced atomically)."""

    job_id: str
    path: str


@dataclass(frozen=True)
class JobFinished(Event):
    """Picture and report lie in the job folder, durable, ready for delivery."""

    job_id: str
    picture: str
    report: str
    facts: Mapping[str, Any]
    """``format``, ``width``, ``height``, ``losses``, ``steps``, ``seconds``, ``style_cache``."""


@dataclass(frozen=True)
class JobFailed(Event):
    """The job ended without a picture; ``reason`` is ``cancelled`` after ``cancel``."""

    job_id: str
    reason: str
    message: str
    remedy: str
    retry: bool


@dataclass(frozen=True)
class JobLost(Event):
    """The worker ended while it had this job and others: nobody knows whose fault that was.

    A ``WorkerGone`` without a job follows. Alone, the job will show whether it was its own.
    """

    job_id: str
    worker: str
    reason: GoneReason


@dataclass(frozen=True)
class JobHandedBack(Event):
    """The worker stops; the job's checkpoint is written and it may be queued again."""

    job_id: str


class Executor(Protocol):
    """Runs tasks somewhere else and reports; no call blocks except ``stop``."""

    def start(self) -> None:
        """Start the workers; ``WorkerReady`` follows for each."""
        ...

    def submit(self, task: Task) -> None:
        """Hand one task to a worker that takes it; RuntimeError when there is none."""
        ...

    def takes(self, task: Task, *, out_of_turn: bool = False) -> bool:
        """Tell whether ``submit`` takes this task right now.

        ``out_of_turn``: others came before it. It may then fill up a worker that gathers tasks of
        its company, but not one where a job has ended: whoever waits for that one has waited.
        """
        ...

    def free_slots(self) -> int:
        """Return how many workers wait for a task, whatever it is."""
        ...

    def events(self) -> list[Event]:
        """Look after the workers and return what has happened since the last call."""
        ...

    def cancel(self, job_id: str) -> bool:
        """Ask for the job's end between two steps; False when no worker holds it."""
        ...

    def workers(self) -> list[WorkerState]:
        """Return every worker as it is now."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``events`` has news (for ``select``)."""
        ...

    def stop(self, grace_s: float) -> None:
        """Let workers checkpoint and hand back, end the rest; then drain ``events`` once more."""
        ...
