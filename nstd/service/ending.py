"""How jobs end: delivered, or set aside with the reason; again and again until the disk lets it.

A job that has to end stays in the ledger's state that says so, so that an error here, or a crash,
only means that it is gone on with later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from nstd.engine.progress import Losses
from nstd.errors import NoSpaceError, NstdError, StorageError
from nstd.jobs import publish
from nstd.jobs.job import Job
from nstd.jobs.ledger import Ledger
from nstd.service.house import House
from nstd.service.logs import job_context, logger
from nstd.service.outbox import Parcel

RESULT, REPORT, PICTURE = "result", "report.json", "picture."
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0


class Endings:
    """Delivers pictures and sets failures aside."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._failing: dict[str, NstdError] = {}
        """Jobs whose failure the ledger could not even record yet."""
        self._pause = FIRST_PAUSE_S
        self._left = True
        """Whether something may be left to end; at a start nobody knows."""
        self.failures = 0
        """Jobs that failed since the start; cancelled ones are none."""
        self.due = float("-inf")
        """When to try again what did not work."""

    @property
    def _ledger(self) -> Ledger:
        return self._house.ledger

    # --- one job -----------------------------------------------------------------------------

    def begin_delivery(self, job_id: str, seconds: Mapping[str, float]) -> None:
        """Deliver a picture that lies finished in the spool, now or as soon as possible."""
        self._ledger.begin_delivery(job_id, ())
        if seconds:
            self._ledger.add_facts(job_id, seconds=dict(seconds))
        self._attempt(self._ledger.get(job_id))

    def fail(self, job: Job, error: NstdError) -> None:
        """Set a job aside with its reason, now or as soon as possible."""
        self._failing[job.id] = error
        self._attempt(job)

    def has(self, job_id: str) -> bool:
        """Whether the job's failure is noted here, though not in the ledger yet."""
        return job_id in self._failing

    def work(self, now: float) -> None:
        """Go on with what an error or a crash has left."""
        if now < self.due:
            return
        self._left = False
        for job_id in list(self._failing):
            self._attempt(self._ledger.get(job_id))
        for job in self._ledger.jobs("delivering", "delivered", "failing"):
            if job.id not in self._failing:
                self._attempt(job)
        self._report(self._house.spool.catch_up())
        self._remove_stale_previews()
        if self._left:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        else:
            self._pause, self.due = FIRST_PAUSE_S, now + LONGEST_PAUSE_S

    def _attempt(self, job: Job) -> None:
        with job_context(job.id):
            try:
                self._end(job)
            except StorageError as error:
                self._not_yet(job, error)
            except OSError as error:
                self._not_yet(job, publish.storage_error(job.title, error))
            except Exception:  # noqa: BLE001 - a bug, or a report that is none: this job fails
                logger().exception("A job could not be ended.")
                self._give_up(job)
            else:
                self._house.pauses.clear(f"end {job.id}")

    def _end(self, job: Job) -> None:
        if job.id in self._failing:
            self._set_aside(job, self._failing[job.id])
        elif job.state == "failing":
            self._set_aside(job, None)
        elif job.state == "delivering":
            self._deliver(job)
        elif job.state == "delivered":
            self._house.spool.finish(job.id)

    def _not_yet(self, job: Job, error: StorageError) -> None:
        self._left = True
        self.due = self._house.now() + self._pause
        full = isinstance(error, NoSpaceError)
        words = f"{job.title} cannot be put where it belongs yet: {error}"
        self._house.pauses.set(f"end {job.id}", "no_space" if full else "io", words, blocks=full)

    def _give_up(self, job: Job) -> None:
        self._failing.pop(job.id, None)
        if self._ledger.get(job.id).state not in ("delivering", "running", "queued", "deferred"):
            return
        error = NstdError("The picture could not be delivered.", "See the log for the reason.")
        self._failing[job.id] = error
        self._left, self.due = True, self._house.now() + self._pause

    # --- well --------------------------------------------------------------------------------

    def _deliver(self, job: Job) -> None:
        began = self._house.now()
        self._house.require("outbox", "originals")
        job_dir = self._house.spool.job_dir(job.id)
        parcel = _parcel(job, job_dir)
        if parcel is None and not (job.outputs and self._house.outbox.is_visible(job.outputs)):
            self._ledger.requeue(job.id, "its result is gone from the spool")
            return
        if parcel is not None:
            self._house.outbox.deliver(
                parcel, job.outputs, lambda outputs: self._record(job.id, outputs)
            )
        self._remove_preview(job.id)
        facts = _facts(job_dir)
        self._ledger.delivered(job.id, **facts)
        self._house.metrics.stage("deliver", self._house.now() - began)
        self._tell_done(job, facts)
        self._house.spool.finish(job.id)

    def _record(self, job_id: str, outputs: Any) -> None:
        self._ledger.begin_delivery(job_id, outputs)

    def _tell_done(self, job: Job, facts: Mapping[str, Any]) -> None:
        now = self._house.now()
        self._house.metrics.job_done(job.id, now, now - job.since, _losses(facts))
        outputs = self._ledger.get(job.id).outputs
        picture = next((output.name for output in outputs if output.role == "picture"), "")
        logger().info("Job done.", picture=picture, seconds=round(now - job.since, 1))

    def _remove_preview(self, job_id: str) -> None:
        try:
            self._house.outbox.remove_preview(job_id)
        except StorageError as error:  # worth no job: it is tried again by and by
            logger().warning("A preview could not be removed.", error=str(error))
            self._left, self.due = True, self._house.now() + self._pause

    def _remove_stale_previews(self) -> None:
        try:
            self._house.outbox.remove_previews({job.id for job in self._ledger.unfinished()})
        except StorageError as error:
            logger().debug("A preview cannot be removed yet.", error=str(error))
            self._left, self.due = True, self._house.now() + self._pause

    # --- badly -------------------------------------------------------------------------------

    def _set_aside(self, job: Job, error: NstdError | None) -> None:
        self._house.require("failed")
        self._remove_preview(job.id)
        ended = self._house.spool.set_aside(job.id, error)
        self._failing.pop(job.id, None)
        if ended.outcome == "cancelled":
            self._house.metrics.job_cancelled(job.id)
            logger().info("Job cancelled.", name=job.title)
        else:
            self.failures += 1
            self._house.metrics.job_failed(job.id, ended.reason)
            logger().error("Job failed.", name=job.title, error=ended.message, remedy=ended.remedy)

    def _report(self, notes: list[str]) -> None:
        """Say what resists: inputs that cannot leave the inbox, folders that cannot go."""
        if notes:
            self._left, self.due = True, self._house.now() + self._pause
            self._house.pauses.set("leftovers", "io", notes[0], blocks=False)
        else:
            self._house.pauses.clear("leftovers")


def _parcel(job: Job, job_dir: str) -> Parcel | None:
    """Return the finished files of a job, None where they are not (any more) in the spool."""
    folder = os.path.join(job_dir, RESULT)
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(PICTURE))
    except OSError:
        return None
    report = os.path.join(folder, REPORT)
    if not names or job.spec is None or not os.path.isfile(report):
        return None
    return Parcel(os.path.join(folder, names[0]), report, job.spec.folder, job.spec.result_stem)


def _facts(job_dir: str) -> dict[str, Any]:
    """Return what the ledger keeps of a report."""
    try:
        with open(os.path.join(job_dir, RESULT, REPORT), encoding="utf-8") as file:
            report = json.load(file)
        return {name: report[name] for name in ("losses", "steps", "device") if name in report}
    except (OSError, ValueError):
        return {}


def _losses(facts: Mapping[str, Any]) -> Losses | None:
    losses = facts.get("losses")
    if not isinstance(losses, dict):
        return None
    numbers = [losses.get(name) for name in ("total", "content", "style", "tv")]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    return Losses(*(float(number) for number in numbers if number is not None))
