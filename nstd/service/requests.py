"""What commands ask of the running daemon, through the ledger: cancel a job, try one again."""

from __future__ import annotations

from collections.abc import Mapping

from nstd.errors import CancelledError, NstdError
from nstd.jobs.inputs import LibraryStyle
from nstd.jobs.job import Job
from nstd.jobs.ledger import Request
from nstd.jobs.retry import retry
from nstd.jobs.text import shown
from nstd.service.dispatch import Dispatch
from nstd.service.ending import Endings
from nstd.service.gathering import Gathering
from nstd.service.house import House
from nstd.service.logs import job_context, logger

LOOK_S = 0.5
"""Commands wait for their answer; so often is looked for new ones."""


class Requests:
    """Answers every request once, with what came of it."""

    def __init__(
        self, house: House, gathering: Gathering, dispatch: Dispatch, endings: Endings
    ) -> None:
        self._house, self._gathering = house, gathering
        self._dispatch, self._endings = dispatch, endings
        self._next = float("-inf")

    def look(self, now: float) -> None:
        """Deal with what commands have asked since the last look.

        Not before the first look at inbox and library: what was asked of a daemon that did not
        run would be refused for want of its style.
        """
        if now < self._next or not self._gathering.scanned:
            return
        self._next = now + LOOK_S
        asked = self._house.ledger.requests()
        library = self._gathering.fresh_library(now) if asked else {}
        for request in asked:
            with job_context(request.job):
                answer = self._answer(request, library)
                self._house.ledger.answer(request.number, answer)
                logger().info("Request.", kind=request.kind, answer=answer or "done")

    def _answer(self, request: Request, library: Mapping[str, LibraryStyle]) -> str:
        try:
            job = self._house.ledger.get(request.job)
            return self._cancel(job) if request.kind == "cancel" else self._retry(job, library)
        except KeyError:
            return f"There is no job '{shown(request.job)}'."
        except NstdError as error:
            return str(error)

    def _cancel(self, job: Job) -> str:
        if job.state in ("queued", "deferred"):
            error = CancelledError("It was cancelled on request.")
            self._endings.fail(job, error)
            return ""
        if job.state == "running" and self._dispatch.cancel(job.id):
            return ""
        if job.state in ("delivering", "delivered", "running"):
            return f"Job {job.id} is painted; only its delivery is left."
        return f"Job {job.id} has ended already ({job.outcome or job.state})."

    def _retry(self, job: Job, library: Mapping[str, LibraryStyle]) -> str:
        if job.state == "deferred":
            self._house.ledger.requeue(job.id, "retried on request")
            return ""
        again = retry(self._house.spool, job.id, library, self._gathering.rules)
        logger().info("Job retried.", as_job=again.id)
        return ""
