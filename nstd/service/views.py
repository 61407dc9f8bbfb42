"""The snapshot: everything that can be said at one instant, of which all doors are views."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nstd import __version__
from nstd.jobs.inputs import Waiting
from nstd.jobs.ledger import Ledger
from nstd.jobs.text import shown
from nstd.service import jobs_view
from nstd.service.dispatch import Dispatch, Running
from nstd.service.gathering import Gathering
from nstd.service.house import House
from nstd.service.snapshot import (
    DaemonState,
    FolderView,
    QueuedJob,
    RunningJob,
    Snapshot,
    WaitingFile,
    WorkerView,
)

SHOWN_WAITING = 200
SHOWN_HISTORY = 100


@dataclass
class Facts:
    """What the loop knows beside its parts."""

    started: float
    state: DaemonState = "starting"
    free: dict[str, int | None] | None = None
    notes: tuple[str, ...] = ()


class Rows:
    """What the ledger says, asked anew only when it has changed: it may hold 100,000 jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._at = -1
        self._fields: dict[str, Any] = {}
        self._oldest: dict[str, float] = {}

    def fields(self) -> dict[str, Any]:
        """Return the fields of a snapshot that the ledger knows."""
        self._refresh()
        return dict(self._fields)

    def oldest(self) -> dict[str, float]:
        """Return since when the oldest job of each pending state is there."""
        self._refresh()
        return dict(self._oldest)

    def _refresh(self) -> None:
        if self._at != self._ledger.changes:
            self._at = self._ledger.changes
            self._fields = jobs_view.fields(self._ledger)
            self._oldest = self._ledger.oldest()


class View:
    """Puts together what the parts of the loop know."""

    def __init__(
        self, house: House, gathering: Gathering, dispatch: Dispatch, facts: Facts
    ) -> None:
        self._house, self._gathering, self._dispatch = house, gathering, dispatch
        self._facts = facts
        self.rows = Rows(house.ledger)

    def snapshot(self, now: float) -> Snapshot:
        """Return how things stand."""
        house, gathering, dispatch, facts = (
            self._house, self._gathering, self._dispatch, self._facts,
        )  # fmt: skip
        known = self.rows.fields()
        waiting = gathering.waiting()
        known["running"] = tuple(_running(job, dispatch) for job in known["running"])
        known["queued"] = _with_etas(known["queued"], known["running"], dispatch)
        known["pending"] = {**known["pending"], **counted(waiting)}
        engine = next(iter(dispatch.facts.values()), {})
        return Snapshot(
            taken=now,
            state=facts.state,
            version=__version__,
            pid=os.getpid(),
            started=facts.started,
            notes=(*facts.notes, *house.pauses.words),
            weights=_weights(engine.get("weights"), house.config.model.weights),
            device=", ".join(dict.fromkeys(worker.device for worker in house.executor.workers())),
            capacity=house.config.queue.capacity_jobs,
            waiting=tuple(_waiting(each) for each in waiting[:SHOWN_WAITING]),
            workers=tuple(_workers(house, dispatch)),
            folders=tuple(_folders(house, facts)),
            ignored=dict(gathering.scan.ignored + gathering.grouping.ignored),
            no_images=tuple(map(shown, gathering.scan.no_images)),
            styles=tuple(sorted(gathering.library)),
            **known,
        )


def counted(waiting: Iterable[Waiting]) -> dict[str, int]:
    """Return how many files settle, and how many wait for something else."""
    kinds = Counter("waiting" if each.file.settled else "settling" for each in waiting)
    return {kind: kinds[kind] for kind in ("settling", "waiting")}


def oldest(waiting: Iterable[Waiting]) -> dict[str, float]:
    """Return since when the oldest file settles, or waits for something else."""
    result: dict[str, float] = {}
    for each in waiting:
        kind = "waiting" if each.file.settled else "settling"
        since = each.file.first_seen
        result[kind] = min(result.get(kind, since), since)
    return result


def _running(job: RunningJob, dispatch: Dispatch) -> RunningJob:
    running = dispatch.running.get(job.id)
    return job if running is None else replace(job, **_progress(running))


def _progress(running: Running) -> dict[str, Any]:
    values: dict[str, Any] = {
        "worker": running.worker,
        "stage": running.stage,
        "started": running.since,
        "preview": running.preview,
        "history": tuple(running.history[-SHOWN_HISTORY:]),
    }
    report = running.report
    if report is not None:
        values |= {
            "step": report.step,
            "steps": report.steps,
            "level": report.level,
            "levels": report.levels,
            "width": report.width,
            "height": report.height,
            "seconds": report.seconds,
            "eta_s": report.eta_s,
            "losses": report.losses.to_dict() if report.losses else None,
        }
    return values


def _with_etas(
    queued: tuple[QueuedJob, ...], running: tuple[RunningJob, ...], dispatch: Dispatch
) -> tuple[QueuedJob, ...]:
    """Estimate when queued jobs will be done: by how long the latest ones took.

    Jobs that share a worker end at about the same time, and so will as many of the next.
    """
    if not dispatch.durations or not dispatch.facts:
        return queued
    usual = sum(dispatch.durations) / len(dispatch.durations)
    workers = len(dispatch.facts)
    busy: dict[str, float] = {}
    for job in running:
        left = usual if job.eta_s is None else job.eta_s
        busy[job.worker] = max(left, busy.get(job.worker, 0.0))
    together = max(Counter(job.worker for job in running).values(), default=1)
    before = sum(busy.values()) / workers
    return tuple(
        replace(job, eta_s=round(before + usual * (1 + place // (workers * together)), 1))
        for place, job in enumerate(queued)
    )


def _waiting(each: Waiting) -> WaitingFile:
    return WaitingFile(
        name=each.file.path,
        reason=each.reason,
        since=each.file.first_seen,
        deadline=each.deadline,
        settling=not each.file.settled,
    )


def _workers(house: House, dispatch: Dispatch) -> Iterable[WorkerView]:
    for worker in house.executor.workers():
        problem = dispatch.problems.get(worker.worker)
        yield WorkerView(
            name=worker.worker,
            state=worker.phase,
            device=worker.device,
            job=next(iter(worker.jobs_held), None),
            jobs=worker.jobs_held,
            jobs_done=worker.jobs,
            problem=str(problem) if problem else "",
        )


def _folders(house: House, facts: Facts) -> Iterable[FolderView]:
    for name, path in house.config.folders.by_name().items():
        free = (facts.free or {}).get(name)
        problem = "" if facts.free is None or free is not None else "cannot be reached"
        yield FolderView(name, str(path), free, problem)


def _weights(facts: object, configured: str) -> str:
    if isinstance(facts, dict):
        return shown(str(facts.get("name", configured)))
    return configured
