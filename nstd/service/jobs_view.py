"""The ledger's rows as the snapshot shows them: the same for a daemon that is up or down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nstd.jobs.job import ENDED, Job
from nstd.jobs.ledger import Ledger
from nstd.service.snapshot import EndedJob, QueuedJob, RunningJob

SHOWN_ENDED = 24
SHOWN_PENDING = 200


def queued(job: Job) -> QueuedJob:
    """Return a job that waits for a worker, for the first time or again."""
    return QueuedJob(
        id=job.id,
        name=job.title,
        style=job.style,
        since=job.since,
        priority=job.priority,
        attempts=job.attempts,
        retry_at=job.retry_at,
        reason=job.message if job.state == "deferred" else "",
    )


def running(job: Job, **progress: Any) -> RunningJob:
    """Return a job that is painted or delivered; ``progress`` is what its worker last told."""
    stage = "optimize" if job.state == "running" else "deliver"
    known: dict[str, Any] = {"worker": "", "stage": stage, "started": job.started or job.admitted}
    return RunningJob(
        id=job.id, name=job.title, style=job.style, attempt=job.attempts, **{**known, **progress}
    )


def ended(job: Job) -> EndedJob:
    """Return a job that is done, failed or cancelled."""
    files = {output.role: output.name for output in job.outputs}
    losses = job.facts.get("losses")
    at = job.ended if job.ended is not None else job.admitted
    done = job.state == "done"
    return EndedJob(
        id=job.id,
        name=job.title,
        style=job.style,
        outcome=job.outcome or "failed",
        ended=at,
        seconds=max(0.0, at - job.since),
        picture=files.get("picture") if done else None,
        report=files.get("report") if done else None,
        error=job.message,
        remedy=job.remedy,
        reason=job.reason,
        folder=job.failed_folder,
        losses=losses if isinstance(losses, Mapping) else None,
    )


def fields(ledger: Ledger) -> dict[str, Any]:
    """Return the fields of a ``Snapshot`` that the ledger knows, for ``replace`` to put in."""
    counts = ledger.counts()
    under_way = ledger.jobs("running", "delivering", "delivered")
    return {
        "totals": {state: counts[state] for state in ENDED},
        "running": tuple(running(job) for job in under_way),
        "queued": tuple(queued(job) for job in ledger.jobs("queued")[:SHOWN_PENDING]),
        "deferred": tuple(queued(job) for job in ledger.jobs("deferred")[:SHOWN_PENDING]),
        "recent": tuple(ended(job) for job in ledger.recent(SHOWN_ENDED, "done", "cancelled")),
        "failed": tuple(ended(job) for job in ledger.recent(SHOWN_ENDED, "failed")),
        "pending": ledger.pending(),
    }
