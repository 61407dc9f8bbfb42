"""A job's folder, built from files that lie elsewhere: inputs, style images, and its own row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nstd.errors import NstdError
from nstd.jobs import aside, intake
from nstd.jobs.inputs import JobInput, LibraryStyle
from nstd.jobs.intake import ChangedError
from nstd.jobs.job import Job, StoredInput, to_bytes
from nstd.jobs.publish import call, sync_folder, write_new
from nstd.jobs.spec import INPUT_FOLDER, STYLE_FOLDER, JobSpec, StyleChoice
from nstd.jobs.text import shown

JOB_FILE = "job.json"


@dataclass(frozen=True)
class Plan:
    """What to copy from where, and what it is for."""

    inputs: tuple[JobInput, ...]
    root: str
    """The inbox, or the folder of a failed job."""
    folder: str
    """Sub-path of the inputs below ``root``."""
    spec: JobSpec | None
    error: NstdError | None
    library: Mapping[str, LibraryStyle]


def build(spool: int, name: str, blank: Job, plan: Plan) -> Job:
    """Fill the new folder ``name`` durably, and return the job as the ledger shall know it.

    Raises ChangedError, StorageError, NoSpaceError; the caller then removes the folder.
    """
    with made(spool, name) as folder:
        with made(folder, INPUT_FOLDER) as target:
            stored = tuple(_copied(each, plan, target, blank) for each in plan.inputs)
            sync_folder(target)
        job = replace(blank, inputs=stored, spec=plan.spec)
        if plan.error is not None:
            job = failing(job, plan.error)
        elif plan.spec is not None:
            job = replace(job, spec=_with_styles(plan.spec, plan.library, folder))
        write_new(folder, JOB_FILE, to_bytes(job))
        sync_folder(folder)
    return job


def failing(job: Job, error: NstdError) -> Job:
    """Return a job that has only to be set aside."""
    return replace(
        job,
        state="failing",
        outcome="failed",
        reason=error.reason,
        message=error.message,
        remedy=error.remedy,
        failed_folder=aside.folder_name(job),
    )


@contextlib.contextmanager
def made(parent: int, name: str) -> Iterator[int]:
    """Yield a descriptor of a new folder."""
    call("mkdir", os.mkdir, name, 0o777, dir_fd=parent)
    flags = intake.FOLDER_FLAGS | os.O_NOFOLLOW
    descriptor = call("open", os.open, name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copied(each: JobInput, plan: Plan, target: int, job: Job) -> StoredInput:
    file = each.file
    return StoredInput(
        name=file.name,
        role=each.role,
        sha256=intake.copy_input(plan.root, plan.folder, file, target),
        size=file.size,
        stays=each.stays or job.intake == "copy",
        dev=file.dev,
        inode=file.inode,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
    )


def _with_styles(spec: JobSpec, library: Mapping[str, LibraryStyle], folder: int) -> JobSpec:
    """Copy the library's images, so that a change there does not touch an admitted job."""
    if not any(choice.library for choice in spec.styles):
        return replace(spec, styles=tuple(_beside(choice) for choice in spec.styles))
    choices = []
    with made(folder, STYLE_FOLDER) as target:
        for number, choice in enumerate(spec.styles):
            if choice.library:
                choices.append(_from_library(choice, number, library, target))
            else:
                choices.append(_beside(choice))
        sync_folder(target)
    return replace(spec, styles=tuple(choices))


def _beside(choice: StyleChoice) -> StyleChoice:
    return replace(choice, files=(f"{INPUT_FOLDER}/{choice.image}",))


def _from_library(
    choice: StyleChoice, number: int, library: Mapping[str, LibraryStyle], styles: int
) -> StyleChoice:
    style = library.get(choice.image)
    if style is None or style.problem or not style.images:
        raise ChangedError(
            f"The style '{shown(choice.image)}' is not in the library any more.",
            "The file is looked at again.",
        )
    names: Sequence[str] = [os.path.basename(path) for path in style.images]
    with made(styles, str(number)) as target:
        for path, name in zip(style.images, names, strict=True):
            intake.copy_style_image(path, target, name)
        sync_folder(target)
    return replace(choice, files=tuple(f"{STYLE_FOLDER}/{number}/{name}" for name in names))
