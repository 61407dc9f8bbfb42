"""The ledger: which jobs there are, where each stands, and what was taken from the inbox.

One row commits a job, one row's change commits each step of its way; the files follow. After a
crash the rows tell what is still to be done. Single-threaded; several processes may open it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nstd.errors import NstdError, UsageError
from nstd.jobs.job import (
    COLUMNS,
    ENDED,
    TRANSITIONS,
    UNFINISHED,
    IllegalTransitionError,
    Job,
    Output,
    State,
    from_row,
    to_column,
)
from nstd.jobs.taken import Taken, TakenFiles
from nstd.jobs.text import shown

RequestKind = Literal["retry", "cancel"]
PENDING_VIEW: dict[State, str] = {
    "queued": "queued",
    "deferred": "deferred",
    "running": "running",
    "delivering": "running",
    "delivered": "running",
    "failing": "running",
}
"""How unfinished states are counted: what a job does after painting is not worth a word."""


@dataclass(frozen=True)
class Request:
    """What a command asks of the daemon."""

    number: int
    kind: RequestKind
    job: str
    at: float
    answer: str | None
    """None until the daemon has dealt with it; empty when it went well, else the sentence."""


class Ledger(TakenFiles):
    """SQLite in WAL mode with ``synchronous=FULL``: what it said is on the disk."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path)
        self.clock = clock

    # --- admission ---------------------------------------------------------------------------

    def admit(self, job: Job, taken: Sequence[Taken] = ()) -> None:
        """Commit a new job, with the inbox files that it has copies of, in one transaction."""
        columns, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
        values = [to_column(name, getattr(job, name)) for name in COLUMNS]
        with self._transaction():
            sql = f"INSERT INTO jobs ({columns}) VALUES ({marks})"  # noqa: S608 - Job's fields
            self._run(sql, *values)
            self._remember(taken)
            self._event(job.id, job.state, job.message)

    # --- the way of a job --------------------------------------------------------------------

    def start(self, job_id: str) -> Job:
        """Give the job to a worker: one more attempt."""
        job = self.get(job_id)
        values: dict[str, Any] = {
            "attempts": job.attempts + 1,
            "started": self.clock(),
            "retry_at": None,
        }
        return self._move(job_id, "running", **values)

    def hand_back(self, job_id: str) -> Job:
        """Take the job back for no fault of its own (a stop): the attempt does not count."""
        job = self.get(job_id)
        return self._move(job_id, "queued", attempts=max(0, job.attempts - 1), retry_at=None)

    def requeue(self, job_id: str, note: str = "") -> Job:
        """Let the job start again as soon as it is its turn; the attempt counts."""
        return self._move(job_id, "queued", note=note, retry_at=None)

    def defer(self, job_id: str, until: float, error: NstdError) -> Job:
        """Try again at ``until``, after a transient error."""
        return self._move(job_id, "deferred", note=error.message, retry_at=until, **_error(error))

    def worker_died(self, job_id: str) -> int:
        """Count a worker that died or stalled while it stepped; returns how many by now."""
        job = self.get(job_id)
        with self._transaction():
            self._update(job_id, worker_deaths=job.worker_deaths + 1)
            self._event(job_id, job.state, "the worker died")
        return job.worker_deaths + 1

    def daemon_died(self) -> list[Job]:
        """At start: jobs that were running go back to the queue, each with one death more."""
        jobs = self.jobs("running")
        for job in jobs:
            values: dict[str, Any] = {"daemon_deaths": job.daemon_deaths + 1, "retry_at": None}
            self._move(job.id, "queued", note="the daemon died", **values)
        return [self.get(job.id) for job in jobs]

    def begin_delivery(self, job_id: str, outputs: Sequence[Output]) -> Job:
        """Record what is about to be published under which names; again when a name was taken."""
        return self._move(job_id, "delivering", outputs=tuple(outputs))

    def delivered(self, job_id: str, **facts: Any) -> Job:
        """Record that picture and report are visible, and add ``facts`` to what the row keeps."""
        job = self.get(job_id)
        values: dict[str, Any] = {**_NO_ERROR, "outcome": "done", "facts": {**job.facts, **facts}}
        return self._move(job_id, "delivered", **values)

    def done(self, job_id: str) -> Job:
        """End the job well: its inputs are put away, too."""
        return self._move(job_id, "done", ended=self.clock(), retry_at=None)

    def begin_failing(self, job_id: str, error: NstdError, folder: str) -> Job:
        """Record how the job ends, and the name of its folder below ``failed``."""
        outcome = "cancelled" if error.reason == "cancelled" else "failed"
        values: dict[str, Any] = {"outcome": outcome, "failed_folder": folder, **_error(error)}
        return self._move(job_id, "failing", note=error.message, **values)

    def failed(self, job_id: str) -> Job:
        """End the job as ``begin_failing`` recorded: its folder below ``failed`` is there."""
        job = self.get(job_id)
        to: State = "cancelled" if job.outcome == "cancelled" else "failed"
        return self._move(job_id, to, ended=self.clock(), retry_at=None)

    def add_facts(self, job_id: str, **facts: Any) -> Job:
        """Keep more about a job (seconds by stage, final losses)."""
        job = self.get(job_id)
        with self._transaction():
            self._update(job_id, facts={**job.facts, **facts})
        return self.get(job_id)

    def _move(self, job_id: str, to: State, *, note: str = "", **values: Any) -> Job:
        with self._transaction():
            state: State = self.get(job_id).state
            if to not in TRANSITIONS[state]:
                raise IllegalTransitionError(f"job {job_id} cannot go from {state} to {to}")
            self._update(job_id, state=to, **values)
            self._event(job_id, to, note)
        return self.get(job_id)

    def _update(self, job_id: str, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        converted = [to_column(name, value) for name, value in values.items()]
        sql = f"UPDATE jobs SET {columns} WHERE id = ?"  # noqa: S608 - Job's fields
        self._run(sql, *converted, job_id)

    def _event(self, job_id: str, state: str, note: str) -> None:
        sql = "INSERT INTO events (job, at, state, note) VALUES (?, ?, ?, ?)"
        self._run(sql, job_id, self.clock(), state, shown(note))

    # --- questions ---------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """Return a job; KeyError when there is none."""
        row = self._one("SELECT * FROM jobs WHERE id = ?", job_id)
        if row is None:
            raise KeyError(job_id)
        return from_row(row)

    def find(self, text: str) -> Job:
        """Return the job whose id begins or ends with ``text``; UsageError when it is not one."""
        rows = self._all(
            "SELECT * FROM jobs WHERE substr(id, 1, length(?1)) = ?1"
            " OR substr(id, -length(?1)) = ?1 LIMIT 2",
            text or "?",
        )
        if len(rows) != 1:
            what = "There is no job" if not rows else "There is more than one job"
            raise UsageError(f"{what} '{shown(text)}'.", "`nstd status` lists the jobs.")
        return from_row(rows[0])

    def jobs(self, *states: State) -> list[Job]:
        """Return the jobs in any of the states, in the order of their turn."""
        rows = self._all(
            "SELECT * FROM jobs WHERE state IN (SELECT value FROM json_each(?))"
            " ORDER BY priority DESC, since, id",
            json.dumps(states),
        )
        return [from_row(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """Return every job that has not ended."""
        return self.jobs(*UNFINISHED)

    def next_job(self, now: float) -> Job | None:
        """Return whose turn it is: highest priority first, then who came first."""
        return next(iter(self.next_jobs(now, 1)), None)

    def next_jobs(self, now: float, limit: int) -> list[Job]:
        """Return those whose turn comes next, in that order."""
        rows = self._all(
            "SELECT * FROM jobs WHERE state = 'queued' OR (state = 'deferred' AND retry_at <= ?)"
            " ORDER BY priority DESC, since, id LIMIT ?",
            now,
            limit,
        )
        return [from_row(row) for row in rows]

    def next_retry(self) -> float | None:
        """Return when the next deferred job may start."""
        row = self._one("SELECT min(retry_at) FROM jobs WHERE state = 'deferred'")
        return None if row is None else row[0]

    def recent(self, limit: int, *states: State) -> list[Job]:
        """Return ended jobs, the latest first."""
        # State by state: each is the end of an index, however many jobs lie before it.
        sql = "SELECT * FROM jobs WHERE state = ? ORDER BY ended DESC, id DESC LIMIT ?"
        rows = [row for state in states or ENDED for row in self._all(sql, state, limit)]
        rows.sort(key=lambda row: (row["ended"] or 0.0, row["id"]), reverse=True)
        return [from_row(row) for row in rows[:limit]]

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        found = {row[0]: row[1] for row in self._all("SELECT state, count(*) FROM jobs GROUP BY 1")}
        return {state: found.get(state, 0) for state in TRANSITIONS}

    def pending(self) -> dict[str, int]:
        """Return how many unfinished jobs are ``queued``, ``running``, ``deferred``."""
        result = dict.fromkeys(("queued", "running", "deferred"), 0)
        for state, number, _since in self._unfinished_by_state():
            result[PENDING_VIEW[state]] += number
        return result

    def oldest(self) -> dict[str, float]:
        """Return the ``since`` of the oldest job that is ``queued``, ``running``, ``deferred``."""
        result: dict[str, float] = {}
        for state, _number, since in self._unfinished_by_state():
            view = PENDING_VIEW[state]
            result[view] = min(result.get(view, since), since)
        return result

    def _unfinished_by_state(self) -> list[tuple[State, int, float]]:
        rows = self._all(
            "SELECT state, count(*), min(since) FROM jobs"
            " WHERE state IN (SELECT value FROM json_each(?)) GROUP BY state",
            json.dumps(UNFINISHED),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def retried(self) -> set[str]:
        """Return the ids of jobs that were tried again as other jobs."""
        rows = self._all("SELECT DISTINCT retry_of FROM jobs WHERE retry_of IS NOT NULL")
        return {row[0] for row in rows}

    def retried_as(self, job_id: str) -> str:
        """Return the id of the latest job that tried this one again; empty when none did."""
        sql = "SELECT id FROM jobs WHERE retry_of = ? ORDER BY admitted DESC, id DESC"
        row = self._one(sql, job_id)
        return "" if row is None else str(row["id"])

    def history(self, job_id: str) -> list[tuple[float, str, str]]:
        """Return what happened to a job: (when, state, note)."""
        sql = "SELECT at, state, note FROM events WHERE job = ? ORDER BY number"
        return [(row[0], row[1], row[2]) for row in self._all(sql, job_id)]

    # --- what commands ask -------------------------------------------------------------------

    def request(self, kind: RequestKind, job_id: str) -> int:
        """Ask the daemon for something; returns the number under which it answers."""
        with self._transaction():
            sql = "INSERT INTO requests (kind, job, at) VALUES (?, ?, ?)"
            return int(self._run(sql, kind, job_id, self.clock()).lastrowid or 0)

    def requests(self) -> list[Request]:
        """Return what nobody has answered yet, in the order in which it came."""
        rows = self._all("SELECT * FROM requests WHERE answer IS NULL ORDER BY number")
        return [Request(**dict(row)) for row in rows]

    def answer(self, number: int, answer: str = "") -> None:
        """Tell how a request ended: empty for well, else the sentence to show."""
        with self._transaction():
            self._run("UPDATE requests SET answer = ? WHERE number = ?", shown(answer), number)

    def answered(self, number: int) -> str | None:
        """Return the answer to a request, None while there is none."""
        row = self._one("SELECT answer FROM requests WHERE number = ?", number)
        return None if row is None else row[0]

    # --- housekeeping ------------------------------------------------------------------------

    def prune(self, *, before: float | None = None, keep: int | None = None) -> int:
        """Forget ended jobs that ended before then, and all but the latest ``keep``."""
        with self._transaction():
            gone = set()
            if before is not None:
                gone |= {r[0] for r in self._all("SELECT id FROM jobs WHERE ended < ?", before)}
            if keep is not None:
                sql = "SELECT id FROM jobs WHERE ended > 0 ORDER BY ended DESC LIMIT -1 OFFSET ?"
                gone |= {row[0] for row in self._all(sql, keep)}
            for job_id in gone:
                self._run("DELETE FROM jobs WHERE id = ?", job_id)
                self._run("DELETE FROM events WHERE job = ?", job_id)
            self._run("DELETE FROM requests WHERE at < ?", self.clock() - 86_400)
        return len(gone)


_NO_ERROR = {"reason": "", "message": "", "remedy": ""}


def _error(error: NstdError) -> dict[str, str]:
    return {"reason": error.reason, "message": error.message, "remedy": error.remedy}
