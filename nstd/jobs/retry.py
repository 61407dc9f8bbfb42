"""A failed or cancelled job once more: its inputs come back from ``failed`` as a new job.

Unchanged inputs are painted as they were asked for; where somebody mended something in the folder
(the sidecar, the photograph), the files are grouped anew, as if they lay in the inbox.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace

from nstd.errors import UsageError
from nstd.jobs import aside, intake
from nstd.jobs.admission import Plan
from nstd.jobs.grouping import group
from nstd.jobs.inputs import InboxFile, JobInput, LibraryStyle, Rules
from nstd.jobs.job import Job, new_id
from nstd.jobs.publish import directory, guard, sha256_of
from nstd.jobs.sidecar_reader import SidecarReader
from nstd.jobs.spec import JobSpec
from nstd.jobs.spool import MAX_READ_BYTES, Spool
from nstd.jobs.text import shown


def retry(spool: Spool, job_id: str, library: Mapping[str, LibraryStyle], rules: Rules) -> Job:
    """Queue the job again under a new id; its folder below ``failed`` goes.

    Raises UsageError when that cannot be, StorageError or NoSpaceError as admission does; then
    everything is as it was.
    """
    job = spool.ledger.get(job_id)
    path = _folder_of(spool, job)
    spool.clear_leftovers()  # its old folder would be a second name of the same files
    files = _files(path, job)
    spec, inputs = _as_before(job, path, files) or _anew(job, path, files, library, rules)
    gone = [c for c in spec.styles if c.library and c.image not in library]
    if gone:
        raise _cannot(job, f"the style '{shown(gone[0].image)}' is not in the library any more")
    now = spool.clock()
    blank = Job(
        id=new_id(now),
        state="queued",
        spec=None,
        folder=job.folder,
        inputs=(),
        intake=job.intake,
        since=now,
        admitted=now,
        priority=spec.priority,
        retry_of=job.id,
    )
    plan = Plan(inputs, root=path, folder="", spec=spec, error=None, library=library)
    new = spool.take_in(plan, blank)
    spool.clear_retried(job.id)
    return new


def _folder_of(spool: Spool, job: Job) -> str:
    if job.state not in {"failed", "cancelled"}:
        raise UsageError(
            f"Job {job.id} is {job.state}; only a failed or cancelled job can be tried again.",
            "`nstd status` lists the failed jobs.",
        )
    path = aside.find(spool.folders.failed, job.id)
    if path is None:
        raise UsageError(
            f"The files of job {job.id} are not in {shown(spool.folders.failed)} any more.",
            "Put the photograph into the inbox again.",
        )
    return path


def _cannot(job: Job, why: str) -> UsageError:
    return UsageError(
        f"Job {job.id} cannot be tried again: {why}.",
        "Mend the files in its folder below failed, or put them into the inbox again.",
    )


def _files(path: str, job: Job) -> list[InboxFile]:
    files = []
    with guard(path), directory(path) as folder:
        for name in aside.names_in(path):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            files.append(InboxFile(
                job.folder, name, found.st_size, found.st_mtime_ns, found.st_ctime_ns,
                found.st_dev, found.st_ino, job.since, settled=True,
            ))  # fmt: skip
    if not files:
        raise _cannot(job, "its folder holds no files")
    return files


def _as_before(
    job: Job, path: str, files: list[InboxFile]
) -> tuple[JobSpec, tuple[JobInput, ...]] | None:
    """Return what the job was, when there was such a thing and every byte is the same."""
    by_name = {file.name: file for file in files}
    if job.spec is None or set(by_name) != {each.name for each in job.inputs}:
        return None
    with guard(path):
        if any(sha256_of(path, each.name) != each.sha256 for each in job.inputs):
            return None
    styles = tuple(replace(choice, files=()) for choice in job.spec.styles)
    inputs = tuple(JobInput(by_name[each.name], each.role) for each in job.inputs)
    return replace(job.spec, styles=styles), inputs


def _anew(
    job: Job,
    path: str,
    files: list[InboxFile],
    library: Mapping[str, LibraryStyle],
    rules: Rules,
) -> tuple[JobSpec, tuple[JobInput, ...]]:
    """Group the files as if they had just settled in the inbox."""
    found = group(
        files,
        read_sidecar=SidecarReader(lambda file: intake.read_input(path, "", file, MAX_READ_BYTES)),
        library=library,
        rules=replace(rules, pair_timeout_s=math.inf),
        now=0.0,
    )
    if len(found.candidates) != 1 or found.waiting:
        reasons = [f"{shown(each.file.name)}: {each.reason}" for each in found.waiting]
        raise _cannot(job, reasons[0] if reasons else "its files make more than one job")
    (candidate,) = found.candidates
    if candidate.error is not None or candidate.spec is None:
        raise _cannot(job, str(candidate.error).rstrip("."))
    return candidate.spec, candidate.inputs
