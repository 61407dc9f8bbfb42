"""After a crash: folders and rows are compared, and each odd one is put right."""

from __future__ import annotations

import os

from nstd.errors import InputError
from nstd.jobs import aside, intake
from nstd.jobs.admission import JOB_FILE
from nstd.jobs.inputs import InboxFile
from nstd.jobs.job import ENDED, Job, StoredInput, from_bytes
from nstd.jobs.publish import guard, sweep
from nstd.jobs.spool import Spool
from nstd.jobs.taken import Taken
from nstd.jobs.text import shown


def recover(spool: Spool) -> list[str]:
    """Put everything in order at start; returns sentences about what was found.

    Left to the daemon: jobs that were running (``Ledger.daemon_died``) or being delivered.
    """
    spool.prepare()
    notes = [
        f"Removed {left} half-written entries from {shown(path)}."
        for path in (spool.folders.spool, spool.folders.failed)
        if (left := sweep(path))
    ]
    with guard(spool.folders.spool):
        present = set(os.listdir(spool.folders.spool))
    for name in sorted(present):
        notes += _folder(spool, name)
    for job in spool.ledger.unfinished():
        notes += _row(spool, job, present)
    there = aside.job_ids(spool.folders.failed)
    spool.clear_retried(*(there & spool.ledger.retried()))
    return notes + spool.catch_up()


def _folder(spool: Spool, name: str) -> list[str]:
    """Remove a folder that nobody needs; take up one that the ledger ought to know."""
    if spool.knows(name):
        if spool.ledger.get(name).state in ENDED:
            spool.discard(name)
        return []
    try:
        with open(os.path.join(spool.job_dir(name), JOB_FILE), "rb") as file:
            job = from_bytes(file.read())
    except (OSError, ValueError):
        return [f"'{shown(name)}' in the spool is no job; it is left as it is."]
    if _admitted_anew(spool, job):
        spool.discard(name)  # the crash came before the commit, and the inputs are where they were
        return []
    # The inbox has let go of the files, and the ledger was lost: the folder tells all.
    leave = [_taken(job, each) for each in job.inputs if not each.stays and not job.retry_of]
    spool.ledger.admit(job, leave)
    return [f"Job {job.id} was not in the ledger; it is taken up again."]


def _admitted_anew(spool: Spool, job: Job) -> bool:
    """Whether all inputs still lie where this folder's were copied from."""
    if job.retry_of is not None:
        return aside.find(spool.folders.failed, job.retry_of) is not None
    return all(intake.is_still_there(spool.folders.inbox, _taken(job, each)) for each in job.inputs)


def _taken(job: Job, each: StoredInput) -> Taken:
    file = InboxFile(
        job.folder, each.name, each.size, each.mtime_ns, each.ctime_ns, each.dev, each.inode,
        job.since, settled=True,
    )  # fmt: skip
    return Taken.of(file, job.id, remove=True, at=job.admitted, sha256=each.sha256)


def _row(spool: Spool, job: Job, present: set[str]) -> list[str]:
    if job.id in present:
        return []
    if job.state not in {"failing", "delivered"}:
        error = InputError(
            "Its files are gone from the spool.", "Put the photograph into the inbox again."
        )
        spool.ledger.begin_failing(job.id, error, aside.folder_name(job))
    return [f"The folder of job {job.id} is gone from the spool."]
