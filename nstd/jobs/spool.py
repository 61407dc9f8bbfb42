"""The spool: one folder per unfinished job, private to nstd, and the ways in and out of it.

In: copy into a temporary folder, fsync, rename to the job's id, commit one ledger row, then clear
the inbox. Out: the ledger says first how the job ends, then the files go where they belong, then
the ledger ends the job, then the folder goes. Killed between any two calls, ``recover`` finds in
rows and folders what is left to do: nothing is lost, and nothing happens twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nstd.errors import NstdError
from nstd.jobs import admission, aside, intake, originals
from nstd.jobs.admission import Plan
from nstd.jobs.inputs import Candidate, InboxFile, LibraryStyle
from nstd.jobs.job import Intake, Job, new_id
from nstd.jobs.ledger import Ledger
from nstd.jobs.publish import (
    call,
    directory,
    guard,
    make_folder,
    remove_tree,
    rename_noreplace,
    sweep,
    sync_folder,
    temporary_name,
)
from nstd.jobs.spec import INPUT_FOLDER
from nstd.jobs.taken import Taken, identity, numbers

MAX_READ_BYTES = 256 * 1024
"""A longer sidecar is none, or is refused for its length."""


@dataclass(frozen=True)
class Folders:
    """The folders that a job's files come from and go to."""

    spool: str
    inbox: str
    originals: str
    failed: str


class Spool:
    """Admits jobs, ends them, and goes on with what was cut off."""

    def __init__(
        self,
        folders: Folders,
        ledger: Ledger,
        *,
        keep_originals: bool = True,
        retry: str = "nstd retry",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folders = folders
        self.ledger = ledger
        self.keep_originals = keep_originals
        self._retry = retry
        self.clock = clock
        self._leftovers: set[str] = set()
        self._retried: set[str] = set()

    def job_dir(self, job_id: str) -> str:
        """Return the path of a job's folder."""
        return os.path.join(self.folders.spool, job_id)

    def prepare(self) -> None:
        """Create the folders that are missing; StorageError when that cannot be."""
        for path in (self.folders.spool, self.folders.originals, self.folders.failed):
            with guard(path):
                make_folder(path)

    def read(self, file: InboxFile) -> bytes:
        """Return the beginning of an inbox file; ChangedError when it is not what settled."""
        return intake.read_input(self.folders.inbox, file.folder, file, MAX_READ_BYTES)

    # --- in ----------------------------------------------------------------------------------

    def admit(
        self, candidate: Candidate, mode: Intake, library: Mapping[str, LibraryStyle] | None = None
    ) -> Job:
        """Make a job of a candidate; one with an error is ``failing`` and has to be set aside.

        Raises ChangedError, NoSpaceError, StorageError: then everything is as it was.
        """
        plan = Plan(
            inputs=candidate.inputs,
            root=self.folders.inbox,
            folder=candidate.folder,
            spec=candidate.spec,
            error=candidate.error,
            library=library or {},
        )
        now = self.clock()
        blank = Job(
            id=new_id(now),
            state="queued",
            spec=None,
            folder=candidate.folder,
            inputs=(),
            intake=mode,
            since=candidate.since,
            admitted=now,
            priority=candidate.priority,
        )
        leave = [each.file for each in candidate.inputs if mode == "copy" or not each.stays]
        job = self.take_in(plan, blank, leave)
        with contextlib.suppress(NstdError):  # the job is admitted; ``catch_up`` tries again
            self.clear_inbox(job.id)
        return job

    def take_in(self, plan: Plan, blank: Job, taken: Sequence[InboxFile] = ()) -> Job:
        """Copy what ``plan`` names into a new job folder, and commit the job.

        Of its inputs, those in ``taken`` are never offered again: they leave the inbox, or stay
        there (``copy`` intake).
        """
        with guard(self.folders.spool), directory(self.folders.spool) as spool:
            temporary = temporary_name()
            try:
                job = admission.build(spool, temporary, blank, plan)
                rename_noreplace(spool, temporary, spool, job.id)
                sync_folder(spool)
                self.ledger.admit(job, _noted(job, taken))
            except BaseException:
                with contextlib.suppress(OSError, NstdError):
                    remove_tree(spool, temporary)
                    if not self.knows(blank.id):
                        self.discard(blank.id)
                raise
        return job

    def knows(self, job_id: str) -> bool:
        """Whether the ledger has a row of that id."""
        with contextlib.suppress(KeyError):
            return bool(self.ledger.get(job_id))
        return False

    def clear_inbox(self, job_id: str | None = None) -> list[str]:
        """Remove from the inbox what the spool holds; returns sentences about what resists.

        What resists is not taken twice, and is tried again at the next call.
        """
        notes = []
        for taken in self.ledger.to_remove():
            if job_id in {None, taken.job}:
                try:
                    intake.remove_taken(self.folders.inbox, taken)
                    self.ledger.removed([taken])
                except NstdError as error:
                    notes.append(str(error))
        return notes

    def recognises(self, file: InboxFile) -> bool:
        """Whether a settled file was taken before, and only its times are others now.

        Then it is remembered as it is now. Raises ChangedError, StorageError.
        """
        taken = self.ledger.taken(file.path)
        if taken is None or not taken.may_be(numbers(file)):
            return False
        if intake.hash_input(self.folders.inbox, file.folder, file) != taken.sha256:
            return False
        self.ledger.remember([replace(taken, identity=identity(file))])
        return True

    # --- out ---------------------------------------------------------------------------------

    def finish(self, job_id: str) -> Job:
        """End a job whose state is ``delivered``: its inputs go to ``originals``."""
        job = self.ledger.get(job_id)
        if job.intake == "move" and self.keep_originals:
            others = [self.job_dir(o.id) for o in self.ledger.jobs("delivered") if o.id != job_id]
            reserved = originals.planned(others)
            originals.put_away(job, self.job_dir(job_id), self.folders.originals, reserved)
        job = self.ledger.done(job_id)
        self.discard(job_id)
        return job

    def set_aside(self, job_id: str, error: NstdError | None = None) -> Job:
        """End a job that failed or was cancelled: its folder appears below ``failed``.

        A job that is ``failing`` already ends as it was recorded, whatever ``error`` is.
        """
        job = self.ledger.get(job_id)
        if error is not None and job.state != "failing":
            job = self.ledger.begin_failing(job_id, error, aside.folder_name(job))
        inputs = os.path.join(self.job_dir(job_id), INPUT_FOLDER)
        now = self.clock()
        aside.build(job, inputs, self.folders.failed, now=now, retry=self._retry)
        job = self.ledger.failed(job_id)
        self.discard(job_id)
        return job

    def discard(self, job_id: str) -> None:
        """Remove a job's folder; one that resists is tried again by ``catch_up``."""
        temporary = temporary_name()
        try:
            with directory(self.folders.spool) as spool:
                # By one rename it is no job's folder any more, however far the removal gets.
                call("rename", os.rename, job_id, temporary, src_dir_fd=spool, dst_dir_fd=spool)
                remove_tree(spool, temporary)
        except FileNotFoundError:
            self._leftovers.discard(job_id)
        except OSError:
            self._leftovers |= {job_id, temporary}
        else:
            self._leftovers.discard(job_id)

    def clear_leftovers(self) -> None:
        """Remove the folders of ended jobs that ``discard`` could not."""
        for name in sorted(self._leftovers):
            self.discard(name)

    def clear_retried(self, *job_ids: str) -> list[str]:
        """Remove the folders below ``failed`` of jobs that were tried again; returns problems."""
        notes = []
        again = bool(self._retried)
        self._retried.update(job_ids)
        for job_id in sorted(self._retried):
            try:
                if again:  # the last attempt may have got as far as a temporary name
                    sweep(self.folders.failed)
                aside.remove(self.folders.failed, job_id)
                self._retried.discard(job_id)
            except NstdError as error:
                notes.append(str(error))
        return notes

    def catch_up(self) -> list[str]:
        """Go on with endings and removals that an error or a crash cut off; returns problems."""
        notes = self.clear_inbox() + self.clear_retried()
        self.clear_leftovers()
        for job in self.ledger.jobs("failing", "delivered"):
            try:
                (self.set_aside if job.state == "failing" else self.finish)(job.id)
            except NstdError as error:
                notes.append(f"Job {job.id} cannot be put away yet: {error}")
        return notes


def _noted(job: Job, files: Sequence[InboxFile]) -> list[Taken]:
    """Note what ``job`` has copies of; in ``move`` intake it has still to leave the inbox."""
    digests = {each.name: each.sha256 for each in job.inputs}
    remove = job.intake == "move"
    return [
        Taken.of(file, job.id, remove=remove, at=job.admitted, sha256=digests[file.name])
        for file in files
    ]
