"""The folder of a failed job: its inputs under their own names, and the reason in plain words.

It is built under a temporary name and appears by one rename. Its final name holds the job's id,
so that after a crash it is there or not, and never there twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
import unicodedata
from typing import Any

from nstd.jobs.free_names import cut, free_stem
from nstd.jobs.job import Job
from nstd.jobs.publish import (
    call,
    directory,
    exists,
    guard,
    make_folder,
    remove_tree,
    rename_noreplace,
    sync_folder,
    temporary_name,
    write_new,
)
from nstd.jobs.putting import put
from nstd.jobs.text import shown

_STEM_BYTES = 120
_NAMED = 3
"""So many files of a job are named in what to do; more are too long a list."""


def folder_name(job: Job) -> str:
    """Return the name of a job's folder below ``failed``: ``beach-20250131-235959-k3v7q2``."""
    name = os.path.basename(job.title)
    stem = name.rpartition(".")[0] or name
    plain = "".join("_" if _is_awkward(char) else char for char in stem).lstrip(".")
    return f"{cut(plain, _STEM_BYTES) or 'job'}-{job.id}"


def _is_awkward(char: str) -> bool:
    return char in '/\\:*?"<>|' or shown(char) != char or unicodedata.category(char)[0] == "C"


def build(job: Job, inputs: str, failed: str, *, now: float, retry: str = "nstd retry") -> None:
    """Make the folder of a job whose state is ``failing``; one that is there already is it.

    ``inputs`` is the folder of its input files; ``retry`` is the command that tries a job again,
    without its id. Raises StorageError, NoSpaceError, after which nothing new is visible.
    """
    name = job.failed_folder or folder_name(job)
    with guard(failed):
        make_folder(failed)  # somebody may have removed it while it was empty
    with guard(failed), directory(failed) as parent:
        if exists(parent, name):
            return
        temporary = temporary_name()
        try:
            call("mkdir", os.mkdir, temporary, 0o777, dir_fd=parent)
            _fill(job, inputs, f"{failed}/{temporary}", now, f"{retry} {job.id}")
            with contextlib.suppress(FileExistsError):
                rename_noreplace(parent, temporary, parent, name)
            sync_folder(parent)
        finally:
            with contextlib.suppress(OSError):
                remove_tree(parent, temporary)


def _fill(job: Job, inputs: str, folder: str, now: float, retry: str) -> None:
    with directory(folder) as target:
        if os.path.isdir(inputs):
            with directory(inputs) as source:
                for name in sorted(os.listdir(source)):
                    put(source, name, target, name)
        stem = free_stem(target, "error", (".txt", ".json"))
        write_new(target, f"{stem}.txt", _in_words(job, retry).encode("utf-8", "backslashreplace"))
        facts = json.dumps(_in_facts(job, now), indent=2, ensure_ascii=False)
        write_new(target, f"{stem}.json", facts.encode("utf-8", "backslashreplace") + b"\n")
        sync_folder(target)


def _in_words(job: Job, retry: str) -> str:
    name = shown(job.title)
    if job.outcome == "cancelled":
        lines = [f"{name} was cancelled.", "", job.message]
    else:
        lines = [f"{name} could not be painted.", "", job.message]
    if job.remedy:
        lines += ["", "What to do:", job.remedy]
    lines += ["", f"To try again, {_again(job)}, or run: {retry}"]
    return "\n".join(lines) + "\n"


def _again(job: Job) -> str:
    if job.intake == "copy":
        return "change the files where they still lie, in the inbox"
    where = f" (folder {shown(job.folder)})" if job.folder else ""
    names = [shown(each.name) for each in job.inputs]
    if 0 < len(names) <= _NAMED:
        return f"put {' and '.join(names)} back into the inbox{where}"
    return f"put the photographs and sidecars of this folder back into the inbox{where}"


def _in_facts(job: Job, now: float) -> dict[str, Any]:
    return {
        "job": job.id,
        "outcome": job.outcome,
        "reason": job.reason,
        "message": job.message,
        "remedy": job.remedy,
        "folder": shown(job.folder),
        "inputs": [
            {
                "name": shown(each.name),
                "role": each.role,
                "sha256": each.sha256,
                "bytes": each.size,
            }
            for each in job.inputs
        ],
        "style": job.style,
        "parameters": job.spec.params.to_dict() if job.spec else None,
        "attempts": job.attempts,
        "worker_deaths": job.worker_deaths,
        "daemon_deaths": job.daemon_deaths,
        "first_seen": _as_text(job.since),
        "admitted": _as_text(job.admitted),
        "ended": _as_text(now),
    }


def _as_text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def find(failed: str, job_id: str) -> str | None:
    """Return the path of a job's folder below ``failed``, by the id at the end of its name."""
    if not os.path.isdir(failed):
        return None
    with guard(failed), directory(failed) as parent:
        names = [name for name in os.listdir(parent) if name.endswith(f"-{job_id}")]
    return os.path.join(failed, names[0]) if names else None


def job_ids(failed: str) -> set[str]:
    """Return the ids at the ends of the names below ``failed``."""
    with guard(failed), directory(failed) as parent:
        names = os.listdir(parent)
    return {"-".join(name.rsplit("-", 3)[-3:]) for name in names}


def remove(failed: str, job_id: str) -> None:
    """Remove a job's folder below ``failed``: it is being tried again."""
    path = find(failed, job_id)
    if path is None:
        return
    with guard(path), directory(failed) as parent:
        # By one rename it is no failed job any more, however far the removal gets.
        temporary, name = temporary_name(), os.path.basename(path)
        call("rename", os.rename, name, temporary, src_dir_fd=parent, dst_dir_fd=parent)
        sync_folder(parent)
        remove_tree(parent, temporary)


def names_in(folder: str) -> list[str]:
    """Return the names of a failed job's inputs: all but the two files that explain."""
    with guard(folder), directory(folder) as descriptor:
        names = sorted(os.listdir(descriptor))
        regular = [name for name in names if _is_file(descriptor, name)]
    explaining = max((n for n in regular if _explains(n)), key=_number, default="")
    return [name for name in regular if name not in {explaining, explaining[:-4] + ".json"}]


def _is_file(folder: int, name: str) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _explains(name: str) -> bool:
    middle = name.removeprefix("error").removesuffix(".txt").removeprefix("-")
    return name.startswith("error") and name.endswith(".txt") and (not middle or middle.isdigit())


def _number(name: str) -> int:
    digits = "".join(filter(str.isdigit, name))
    return int(digits or 1)
